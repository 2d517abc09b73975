"""Export of hulls: JSON with computed entries, as ALEXANDRIA's convex hulls, or a CSV table.

`ComputedEntry.from_dict` of pymatgen reads an entry. Phases with formation energies only are records with `e_form`.
"""

import bz2
import csv
import gzip
import json
from collections.abc import Iterator
from functools import lru_cache
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
from ase.formula import Formula
from jaxtyping import Float

from mlip.errors import MlipError
from mlip.files.output_paths import writing_to
from mlip.files.whole_file import whole_file
from mlip.functionals import UNKNOWN
from mlip.hull.convex_hull import Hulls
from mlip.hull.decomposition import Mixture, decompositions
from mlip.hull.hull_of_files import HullOfFiles

_ROWS_A_PART = 100_000
"""Number of entries whose decompositions are in memory at a time."""
_RUN_TYPES = {"PBE": "GGA", "PBE+U": "GGA+U"}
_HEADER = ("id", "formula", "energy_ev_per_atom", "e_above_hull_ev_per_atom", "is_on_hull", "decomposition")


def check_ending(path: Path) -> None:
    """Check the ending of an output file's name.

    Raises:
        MlipError: `write_hull` has no format for this ending.
    """
    if path.suffix != ".csv" and ".json" not in path.suffixes[-2:]:
        raise MlipError("has no known ending", where=str(path), fix=".json, .json.gz, .json.bz2, or .csv")


def write_hull(path: Path, found: HullOfFiles, *, within: float = np.inf) -> int:
    """Write the entries of a hull, whole or not at all; returns the number of entries.

    Args:
        path: .json, .json.gz or .json.bz2 for computed entries, .csv for a table.
        within: largest distance to the hull, eV/atom; entries above it are left out.

    Raises:
        MlipError: the ending is unknown, or the file cannot be written.
    """
    check_ending(path)
    rows = np.flatnonzero(found.hull.distances <= max(within, 0.0) + 1e-9)
    write = _write_table if path.suffix == ".csv" else _write_entries
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
    with writing_to(path), whole_file(path) as partial, opener(partial, "wt", encoding="utf-8", newline="") as file:
        write(file, found, rows)
    return len(rows)


def _write_entries(file: TextIOWrapper, found: HullOfFiles, rows: np.ndarray) -> None:
    record = _formation_record if found.entries.are_formation_energies else _computed_entry
    formation = _formation_energies(found)
    file.write('{"entries": [')
    for k, (row, decomposition) in enumerate(_with_decompositions(found, rows)):
        one = record(found, row, float(formation[row]), decomposition)
        file.write(f"{',' if k else ''}\n{json.dumps(one, allow_nan=False)}")
    file.write("\n]}\n")


def _write_table(file: TextIOWrapper, found: HullOfFiles, rows: np.ndarray) -> None:
    hull, table = found.hull, csv.writer(file)
    table.writerow(_HEADER)
    for row, decomposition in _with_decompositions(found, rows):
        energy, distance = (f"{float(value):.9g}" for value in (hull.phases.energies[row], hull.distances[row]))
        formula = formula_of(found.entries.compositions[row])
        table.writerow((hull.ids[row], formula, energy, distance, bool(hull.is_vertex[row]), decomposition))


def formula_of(composition: dict[str, float]) -> str:
    """Reduced formula of a composition, metals first: {"O": 6, "Fe": 2} gives FeO3."""
    return _formula(tuple(sorted(composition.items())))


@lru_cache(maxsize=1 << 16)
def _formula(amounts: tuple[tuple[str, float], ...]) -> str:
    if all(float(amount).is_integer() for _, amount in amounts):
        return f"{Formula.from_dict({symbol: int(amount) for symbol, amount in amounts}).reduce()[0]:metal}"
    return "".join(f"{symbol}{amount:.6g}" for symbol, amount in amounts)


def _with_decompositions(found: HullOfFiles, rows: np.ndarray) -> Iterator[tuple[int, str]]:
    """Rows, and the formulas of the decomposition of each, separated by spaces as in ALEXANDRIA's files."""
    for start in range(0, len(rows), _ROWS_A_PART):
        part = rows[start : start + _ROWS_A_PART]
        for row, mixture in zip(part.tolist(), decompositions(found.hull, part), strict=True):
            yield row, _told(found, mixture)


def _told(found: HullOfFiles, mixture: Mixture) -> str:
    names = [name if isinstance(name, str) else formula_of(found.entries.compositions[name]) for name, _ in mixture]
    return " ".join(dict.fromkeys(names))


def _formation_energies(found: HullOfFiles) -> Float[np.ndarray, " n"]:
    """Formation energies relative to the stable phases of the elements, eV/atom."""
    hull = found.hull
    if found.entries.are_formation_energies:
        return hull.phases.energies
    is_element = hull.phases.numbers[:, 1] == 0
    return Hulls(hull.phases.take(np.flatnonzero(is_element & hull.is_vertex))).distances(hull.phases)


def _formation_record(found: HullOfFiles, row: int, formation: float, decomposition: str) -> dict[str, Any]:
    composition = found.entries.compositions[row]
    return {
        "mat_id": found.hull.ids[row],
        "composition": composition,
        "formula": formula_of(composition),
        "e_form": formation,
        "e_above_hull": float(found.hull.distances[row]),
        "decomposition": decomposition,
    }


def _computed_entry(found: HullOfFiles, row: int, formation: float, decomposition: str) -> dict[str, Any]:
    composition, energies = found.entries.compositions[row], found.entries.energies
    n, level = sum(composition.values()), energies.levels[row]
    total, corrected = (n * float(column[row]) for column in (energies.uncorrected, energies.corrected))
    data = {
        "nsites": int(n) if float(n).is_integer() else n,
        "elements": sorted(composition),
        "energy_total": total,
        "energy_corrected": None if np.isnan(energies.corrections[row]) else corrected,
    }
    shared = _formation_record(found, row, formation, decomposition)
    return {
        "@module": "pymatgen.entries.computed_entries",
        "@class": "ComputedEntry",
        "energy": total,
        "composition": shared.pop("composition"),
        "entry_id": found.hull.ids[row],
        "correction": corrected - total,
        "energy_adjustments": [],
        "parameters": {} if level == UNKNOWN else {"run_type": _RUN_TYPES.get(level, level)},
        "data": shared | data,
    }
