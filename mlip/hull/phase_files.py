"""Phases with their energies from files: stores, computed entries of ALEXANDRIA or pymatgen, formation energies, and
saved growing hulls."""

import bz2
import gzip
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mlip.data import Store
from mlip.data.readers.json_stream import NotJsonError, decoded, raw_members
from mlip.data.readers.naming import functional_by_name
from mlip.data.schema import CORRECTION
from mlip.data.shard import is_store
from mlip.data.store import Material
from mlip.errors import MlipError
from mlip.functionals import UNKNOWN, functional_of_run_type
from mlip.hull.convex_hull import MAX_ELEMENTS
from mlip.hull.growing_file import read_columns

LAYOUTS = "a store, JSON of entries (composition, energy) or of phases (composition, e_form)"
_NO_PHASE = "has no composition with an energy"
_MOST_ATOMS = 1000
"""Maximum number of atoms in a composition that is recovered from fractions."""


class Phase(NamedTuple):
    """A phase with the energy and correction of its source."""

    composition: dict[str, float]
    energy: float
    """Energy without correction, eV/atom."""
    correction: float = float("nan")
    """Correction, eV/atom; NaN where the source does not state whether there is one."""
    level: str = UNKNOWN
    """Functional, with "+U" where the run type states a Hubbard correction."""
    is_formation_energy: bool = False
    id: str = ""

    @property
    def fault(self) -> str | None:
        """Reason why the phase cannot be part of a hull; None if it can."""
        if strangers := [symbol for symbol in self.composition if symbol not in atomic_numbers]:
            return f"{strangers[0]!r} is no element"
        amounts = self.composition.values()
        if not 0 < len(amounts) <= MAX_ELEMENTS or not all(0 < amount < math.inf for amount in amounts):
            return "no composition of one to nine elements"
        if not math.isfinite(self.energy) or math.isinf(self.correction):
            return "its energy is not finite"
        return None


def phases_in(source: Path, refused: Counter[str] | None = None) -> Iterator[Phase]:
    """The phases of a file, or of all JSON files in a folder.

    Args:
        refused: counter of phases left out, by reason; without it, a phase that cannot be read raises.

    Raises:
        MlipError: there is no such file, it has none of the layouts, or a phase has no composition or energy.
    """
    for path in _files(source):
        if is_store(path):
            yield from _of_store(path, refused)
        elif path.suffix == ".npz":
            yield from _of_grown_hull(path)
        else:
            yield from _of_json(path, refused)


def atoms_of_composition(numbers: np.ndarray) -> dict[str, float]:
    """Composition of a list of atomic numbers: symbol -> number of atoms."""
    distinct, counts = np.unique(numbers, return_counts=True)
    return {chemical_symbols[z]: float(n) for z, n in zip(distinct, counts, strict=True)}


def correction_of(material: Material) -> float:
    """Correction of the source to the energy of a store's material, eV per cell; NaN where none is stated."""
    return float(material.properties.get(CORRECTION, material.properties.get("mp_correction", np.nan)))


def level_of(material: Material) -> str:
    """Functional of a store's material, with "+U" where its run type states a Hubbard correction."""
    return functional_of_run_type(material.properties.get("run_type"), material.functional)


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise MlipError("no such file or folder", where=str(source))
    if source.is_file() or is_store(source):
        return [source]
    return sorted(path for path in source.iterdir() if ".json" in path.suffixes)


def _of_store(path: Path, refused: Counter[str] | None) -> Iterator[Phase]:
    """Phases of relaxed structures with energies; other materials are counted in `refused`."""
    with Store(path) as store:
        for material in store.materials():
            frame = store.relaxed_frame(material)
            if frame is None or not np.isfinite(frame.energy):
                if refused is not None:
                    refused["no relaxed structure" if frame is None else "its energy is not finite"] += 1
                continue
            n = len(frame)
            composition, correction = atoms_of_composition(frame.numbers), correction_of(material) / n
            yield Phase(composition, frame.energy / n, correction, level_of(material), id=material.id)


def _of_grown_hull(path: Path) -> Iterator[Phase]:
    columns = read_columns(path)
    kind = columns.are_formation_energies
    for name, numbers, fractions, energy in zip(columns.ids, *_columns_of(columns.phases), strict=True):
        amounts = _whole(fractions[numbers > 0])
        composition = {chemical_symbols[z]: x for z, x in zip(numbers[numbers > 0], amounts, strict=True)}
        yield Phase(composition, float(energy), 0.0, is_formation_energy=kind, id=name)


def _columns_of(phases):
    return phases.numbers, phases.fractions, phases.energies


def _whole(fractions: np.ndarray) -> list[float]:
    """The smallest integer amounts with these fractions; the fractions themselves if there are none."""
    for n in range(1, _MOST_ATOMS + 1):
        amounts = fractions * n
        if np.abs(amounts - np.round(amounts)).max() < 1e-7 * n:
            return np.round(amounts).tolist()
    return fractions.tolist()


def _of_json(path: Path, refused: Counter[str] | None) -> Iterator[Phase]:
    functional = _functional_of_file(path)
    for place, item in enumerate(_items(path, refused)):
        try:
            phase = _of_record(item, functional, f"{path.name}:{place}")
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
            if refused is None:
                raise MlipError(_NO_PHASE, where=f"{path}: phase {place}", fix=LAYOUTS) from None
            refused[_NO_PHASE] += 1
            continue
        yield phase


def _functional_of_file(path: Path) -> str:
    """Functional by the naming of ALEXANDRIA's files and folders; "unknown" if the name does not tell."""
    try:
        return functional_by_name(path)
    except MlipError:
        return UNKNOWN


def _items(path: Path, refused: Counter[str] | None) -> Iterator[Any]:
    """Items of a JSON list, or of the list "entries" of an object; the latter is read item by item."""
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
    with opener(path, "rb") as file:
        try:
            is_list = file.read(64).lstrip()[:1] == b"["
        except (OSError, EOFError):  # damaged file: the streaming reader raises the error
            is_list = False
        if is_list:
            file.seek(0)
            try:
                yield from json.load(file)
            except (ValueError, OSError, EOFError):
                raise MlipError("is not JSON", where=str(path), fix=LAYOUTS) from None
            return
    for member in raw_members(path):
        if member.key != "entries":
            continue
        try:
            yield decoded(member, path)
        except NotJsonError:
            if refused is None:
                raise
            refused["not JSON"] += 1


def _of_record(item: Any, functional: str, name: str) -> Phase:
    composition = {str(symbol): float(amount) for symbol, amount in item["composition"].items()}
    parameters, data = item.get("parameters") or {}, item.get("data") or {}
    level = functional_of_run_type(parameters.get("run_type") or data.get("run_type"), functional)
    name = str(data.get("mat_id") or item.get("mat_id") or item.get("entry_id") or name)
    if "energy" in item:
        n = sum(composition.values())
        # Like pymatgen, treat a missing key as no correction.
        return Phase(composition, float(item["energy"]) / n, float(item.get("correction") or 0.0) / n, level, id=name)
    # Formation energies of GGA and GGA+U are already on one scale.
    return Phase(composition, float(item["e_form"]), 0.0, level.removesuffix("+U"), is_formation_energy=True, id=name)
