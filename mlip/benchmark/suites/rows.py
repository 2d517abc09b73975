"""Rows of potentials benchmarked earlier, kept in the package for comparison, and the table of a new row beside them.

A row is the JSON that `mlip benchmark suite` writes: a potential, a date, versions, and for each suite its protocol,
metrics, reasons and seconds. Numbers of two rows are compared where suite and protocol are the same.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mlip.benchmark.suites.suite import Suite
from mlip.benchmark.tables import Estimate, Table
from mlip.errors import MlipError

FORMAT = 1
Row = dict[str, Any]


def kept_rows() -> list[Row]:
    """The rows in the package, sorted by file name."""
    folder = files("mlip.benchmark.suites") / "rows"
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".json"))
    return [json.loads((folder / name).read_text(encoding="utf-8")) for name in names]


def read_row(path: Path) -> Row:
    """Read a row from a file.

    Raises:
        MlipError: the file cannot be read, or is not a row.
    """
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MlipError(f"cannot be read ({type(error).__name__})", where=str(path)) from None
    if not isinstance(row, dict) or row.get("mlip_suites") != FORMAT:
        raise MlipError("is no row of mlip benchmark suite", where=str(path), fix="suites.json of a run")
    return row


def comparison(row: Row, others: Sequence[Row], suites: Mapping[str, Suite]) -> Table:
    """The table of a row's metrics beside those of other rows with the same protocol."""
    others = [one for one in others if one["potential"] != row["potential"] and any(_shared(row, one))]
    cells = []
    for name in row["suites"]:
        for key, metric in suites[name].metrics.items():
            values = [_value(one, row, name, key) for one in (row, *others)]
            if np.isfinite(values).any():
                cells.append((suites[name].title, metric.label, *(Estimate(v, metric.digits) for v in values)))
        alike = [one if _is_alike(row, one, name) else None for one in (row, *others)]
        for label, number in (("structures", _n_structures), ("seconds", _seconds)):
            counts = (float("nan") if one is None else number(one["suites"][name]) for one in alike)
            cells.append((suites[name].title, label, *(Estimate(count, 0) for count in counts)))
    names = [f"{one['potential']['name']} ({one['date']})" for one in (row, *others)]
    doubled = [name for k, name in enumerate(names) if name in names[:k]]
    names = [f"{name} #{k}" if name in doubled else name for k, name in enumerate(names)]
    notes = (
        "Error: potential minus reference. Beside it: rows kept in the package, or given, where suite and protocol are "
        "the same; potentials that know fewer elements have fewer structures. Seconds are of the machine of each run.",
    )
    return Table("suites", "All suites", ("", "potential", *names), tuple(cells), notes)


def _shared(row: Row, other: Row) -> Iterator[bool]:
    return (_is_alike(row, other, name) for name in row["suites"])


def _is_alike(row: Row, other: Row, suite: str) -> bool:
    return suite in other["suites"] and other["suites"][suite]["protocol"] == row["suites"][suite]["protocol"]


def _value(one: Row, row: Row, suite: str, key: str) -> float:
    value = one["suites"][suite]["metrics"].get(key) if _is_alike(row, one, suite) else None
    return float("nan") if value is None else value


def _n_structures(found: Mapping[str, Any]) -> float:
    """Number of calculations, failed ones included; structures with elements unknown to the potential are left out."""
    return sum(found["reasons"].values())


def _seconds(found: Mapping[str, Any]) -> float:
    return found["seconds"]
