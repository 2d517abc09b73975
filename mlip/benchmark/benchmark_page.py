"""The HTML report: tables, histograms, and the failed and worst relaxations with their structures before and after.

The page is one self-contained file: it embeds figures, structures, script and style, and its content security policy
forbids the browser to fetch anything.
"""

import html
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mlip.benchmark.error_summary import Record, energy_error, relative_volume_error
from mlip.benchmark.histograms import error_charts
from mlip.benchmark.results import PotentialResults
from mlip.benchmark.tables import Table
from mlip.report.page import write_page
from mlip.report.structure_view import atom_legend, cell_lengths, structure_view, turning_together

_SHOWN = 12
"""Maximum number of structures shown for a potential in each group (failed, largest volume errors, ...)."""


def write_benchmark_page(potentials: Sequence[PotentialResults], tables: Sequence[Table], path: Path) -> None:
    """Write the report of these potentials to `path`."""
    sections = {
        "Protocol": _protocol_table(potentials).to_html(),
        "Errors": "".join(table.to_html() for table in tables),
        "Distribution of errors": error_charts(potentials),
        "Structures": "\n".join(map(_structures, potentials)),
    }
    names = ", ".join(potential.name for potential in potentials)
    write_page(path, "Relaxation benchmark", names, {heading: text for heading, text in sections.items() if text})


def failed(records: list[Record]) -> list[Record]:
    """Records of the relaxations that gave no relaxed structure."""
    return [record for record in records if record["volume"] is None]


def worst(records: list[Record], error_of: Callable[[Record], float]) -> list[Record]:
    """Records of the relaxed materials whose error is known, sorted by decreasing absolute error."""
    known = [record for record in records if np.isfinite(error_of(record))]
    return sorted(known, key=lambda record: -abs(error_of(record)))


def _protocol_table(potentials: Sequence[PotentialResults]) -> Table:
    columns = ("", "potential", "start", "symmetry", "fmax", "steps", "dtype", "store", "SHA-256")
    rows = tuple(
        (
            str(number),
            potential.name,
            *(potential.setting(key) for key in ("start", "symmetry", "fmax", "steps", "dtype")),
            ", ".join(header["store"]["name"] for header in potential.headers),
            potential.sha256[:12],
        )
        for number, potential in enumerate(potentials, start=1)
    )
    return Table("protocol", "What was run", columns, rows)


def _structures(potential: PotentialResults) -> str:
    records = potential.records
    kinds = {
        f"failed ({len(failed(records))})": failed(records),
        "largest volume errors": worst(records, relative_volume_error),
        "largest energy errors": worst(records, energy_error),
    }
    parts = []
    for kind, chosen in kinds.items():
        if chosen:
            shown = "\n".join(_structure(record) for record in chosen[:_SHOWN])
            parts.append(f"<h3>{html.escape(potential.name)}: {kind}</h3>\n<div class='structures'>{shown}</div>")
    return "\n".join(parts)


def _structure(record: Record) -> str:
    """HTML of one material: its errors and the views of its structure before and after."""
    numbers = {"dV": (relative_volume_error(record), "{:+.1f} %"), "dE": (energy_error(record), "{:+.3f} eV/atom")}
    facts = [record["reason"], f"{record['n_steps']} steps"]
    facts += [f"{name} {text.format(value)}" for name, (value, text) in numbers.items() if np.isfinite(value)]
    lines = [
        f"<b>{html.escape(record['id'])}</b> {html.escape(record['formula'])} ({record['dimensionality']}D)",
        html.escape(", ".join(facts)),
        *([html.escape(record["message"])] if record.get("message") else []),
        atom_legend(record["numbers"]),
    ]
    before = _view("before", record, record.get("initial_cell"), record.get("initial_positions"))
    after = _view("after", record, record["cell"], record["positions"])
    return f"<div class='structure'>{'<br>'.join(lines)}{turning_together([before, after])}</div>"


def _view(name: str, record: Record, cell: list | None, positions: list | None) -> str:
    caption = name if cell is None else f"{name}: {cell_lengths(cell)}"
    return structure_view(f"{record['id']} {name}", caption, record["numbers"], cell, positions, record["pbc"])
