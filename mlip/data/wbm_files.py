"""Store of WBM (H.-C. Wang, S. Botti, M. A. L. Marques, npj Comput. Mater. 7, 12 (2021)) from Matbench Discovery's
files: initial and DFT-relaxed structure of each material, DFT's energy, and the summary's labels.

    *wbm-init-structs.jsonl.gz                  {"material_id", "initial_structure": pymatgen's Structure}
    *wbm-computed-structure-entries.jsonl.gz    {"material_id", "computed_structure_entry": pymatgen's entry}
    *wbm-summary.csv.gz                         material_id, and the columns of `_COLUMNS`

Energies of entries are VASP's, without corrections; formation energies and hull distances include MP2020's.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mlip.data.readers.pymatgen_json import SpeciesBefore, geometry
from mlip.data.readers.streams import read_lines
from mlip.data.records import Frame, MalformedError, Trajectory
from mlip.data.schema import CORRECTION
from mlip.data.store import Store
from mlip.data.writer import StoreWriter
from mlip.errors import MlipError

UNIQUE_PROTOTYPE = "unique_prototype"
"""Property of a material: 1 if no other material of WBM or of the Materials Project has its prototype, else 0."""

_COLUMNS = {
    "e_form": "e_form_per_atom_mp2020_corrected",
    "e_above_hull": "e_above_hull_mp2020_corrected_ppd_mp",
    CORRECTION: "e_correction_per_atom_mp2020",
    UNIQUE_PROTOTYPE: "unique_prototype",
}
"""Column of the summary, by property of the store."""
_TRUTH = {"true": 1.0, "false": 0.0}
_FIX = "mlip data fetch wbm-initial brings them"


class _Files(NamedTuple):
    initial: Path
    entries: Path
    summary: Path


def is_wbm_folder(path: Path) -> bool:
    """Whether a folder holds the initial structures of WBM."""
    return path.is_dir() and any(path.glob("*wbm-init-structs.jsonl*"))


def build_wbm_store(folder: Path, out: Path) -> int:
    """Write a store from the three files in a folder; returns its number of materials.

    The two files of structures are read side by side; a structure waits in memory only if their orders differ.

    Raises:
        MlipError: a file is missing or invalid, a material of one file is not in another, or has no structure.
    """
    files = _files(folder)
    labels = _summary(files.summary)
    with StoreWriter(out, {"source": "WBM of Matbench Discovery", "files": _sizes(files)}) as writer:
        for name, initial, entry in _pairs(files):
            if name not in labels:
                raise MlipError("is not in the summary", where=f"{files.summary}: {name}", fix=_FIX)
            writer.add(_trajectory(name, initial, entry, labels.pop(name), folder), "test")
        if labels:
            raise MlipError(f"{len(labels)} materials have no structures: {_some(labels)}", where=str(folder), fix=_FIX)
        return writer.n_materials


def check_made_of(folder: Path, store: Path) -> None:
    """Check that a store was made of the files in a folder, by their names and sizes.

    Raises:
        MlipError: it was made of other files.
    """
    with Store(store) as opened:
        files = opened.metadata["settings"].get("files")
    if files != _sizes(_files(folder)):
        raise MlipError(f"was made of other files than those in {folder}", where=str(store), fix="another --out")


def _sizes(files: Iterable[Path]) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in files}


def _files(folder: Path) -> _Files:
    found = []
    for pattern in ("*wbm-init-structs.jsonl*", "*wbm-computed-structure-entries.jsonl*", "*wbm-summary.csv*"):
        matching = sorted(folder.glob(pattern))
        if len(matching) != 1:
            raise MlipError(f"holds {len(matching)} files {pattern}, not one", where=str(folder), fix=_FIX)
        found += matching
    return _Files(*found)


def _summary(path: Path) -> dict[str, dict[str, float]]:
    """Labels of each material as in the store, except for the correction, which is per atom."""
    rows = csv.DictReader(read_lines(path))
    if missing := {"material_id", *_COLUMNS.values()} - set(rows.fieldnames or ()):
        raise MlipError(f"has no column {', '.join(sorted(missing))}", where=str(path), fix=_FIX)
    return {
        row["material_id"]: {
            name: value
            for name, column in _COLUMNS.items()
            if math.isfinite(value := _number(row[column] or "", f"{path}: {row['material_id']}: {column}"))
        }
        for row in rows
    }


def _number(text: str, where: str) -> float:
    try:
        return _TRUTH.get(text.strip().lower(), math.nan) if text[:1].isalpha() or not text else float(text)
    except ValueError:
        raise MlipError(f"{text!r} is no number", where=where) from None


def _pairs(files: _Files) -> Iterator[tuple[str, Any, Any]]:
    """Id, initial structure and computed entry of each material."""
    waiting: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    streams = _members(files.initial, "initial_structure"), _members(files.entries, "computed_structure_entry")
    ended = 0
    while ended < len(streams):
        ended = 0
        for one, other, stream in zip(waiting, reversed(waiting), streams, strict=True):
            found = next(stream, None)
            if found is None:
                ended += 1
                continue
            name, value = found
            if name in one:
                raise MlipError("occurs twice", where=f"{files.initial.parent}: {name}")
            one[name] = value
            if name in other:
                yield name, waiting[0].pop(name), waiting[1].pop(name)
    for one, path in zip(waiting, reversed(files[:2]), strict=True):
        if one:
            raise MlipError(f"has no structure of {len(one)} materials: {_some(one)}", where=str(path), fix=_FIX)


def _members(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_lines(path), start=1):
        try:
            member = json.loads(line)
            yield str(member["material_id"]), member[key]
        except (ValueError, KeyError, TypeError):
            raise MlipError(f"is no JSON with material_id and {key}", where=f"{path}:{number}", fix=_FIX) from None


def _trajectory(name: str, initial: Any, entry: Any, labels: dict[str, float], folder: Path) -> Trajectory:
    try:
        before = Frame(**geometry(initial, "initial structure", SpeciesBefore()))
        after = geometry(entry["structure"], "relaxed structure", SpeciesBefore())
        relaxed = Frame(**after, energy=float(entry["energy"]), ionic_step=1)
    except MalformedError as fault:
        raise MlipError(str(fault), where=f"{folder}: {name}") from None
    except (KeyError, TypeError, ValueError):
        raise MlipError("its entry has no structure with an energy", where=f"{folder}: {name}") from None
    if CORRECTION in labels:
        labels[CORRECTION] *= len(relaxed)
    return Trajectory(name, [before, relaxed], "PBE", 3, labels)


def _some(names: dict[str, Any]) -> str:
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
