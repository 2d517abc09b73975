"""Reference phases of a hull from files: a store, ALEXANDRIA's or pymatgen's computed entries, or formation energies.

All phases of a hull have energies of one kind and one level of theory (`mlip.hull.energies`). Energies are
totals, with corrections where entries have them; or formation energies, where there are no others.
"""

import bz2
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import chemical_symbols

from mlip.data import Store
from mlip.data.readers.json_stream import members
from mlip.data.readers.naming import functional_by_name
from mlip.data.schema import CORRECTION
from mlip.data.shard import is_store
from mlip.data.store import Material
from mlip.errors import MlipError
from mlip.functionals import UNKNOWN, functional_of_run_type
from mlip.hull.convex_hull import Hulls, Phases
from mlip.hull.energies import Energies, check_levels

_LAYOUTS = "a store, JSON of entries (composition, energy) or of phases (composition, e_form)"


class Phase(NamedTuple):
    """A phase as its source has it."""

    composition: dict[str, float]
    energy: float
    """eV/atom, without correction."""
    correction: float = float("nan")
    """eV/atom; NaN where nothing states whether there is one."""
    level: str = UNKNOWN
    """Functional, with Hubbard corrections where a run type tells."""
    is_formation_energy: bool = False


@dataclass(frozen=True, eq=False)
class References:
    """The phases of a hull, all with energies of one kind."""

    compositions: list[dict[str, float]]
    energies: Energies
    are_formation_energies: bool
    where: str
    """The sources, for messages."""
    note: str | None = None
    """Remark on the levels of theory of the references."""

    @property
    def n_phases(self) -> int:
        return len(self.compositions)

    @cached_property
    def hulls(self) -> Hulls:
        """With the corrections that are stated."""
        return self._hulls(self.energies.corrected)

    @cached_property
    def uncorrected_hulls(self) -> Hulls:
        """Hulls of the energies as they were computed."""
        return self._hulls(self.energies.uncorrected)

    def _hulls(self, energies: np.ndarray) -> Hulls:
        phases = Phases.of(self.compositions, energies)
        return Hulls(phases, are_formation_energies=self.are_formation_energies)


def read_references(sources: Sequence[Path], *, allow_functional_mismatch: bool = False) -> References:
    """
    Args:
        sources: stores, JSON files (also .gz, .bz2), or folders of either.
        allow_functional_mismatch: mix phases of several functionals or run types.

    Raises:
        MlipError: no such file, none of the layouts, total and formation energies side by side, several functionals
            or run types.
    """
    phases = [phase for source in sources for path in _files(source) for phase in _phases_in(path)]
    kinds, where = {phase.is_formation_energy for phase in phases}, ", ".join(map(str, sources))
    if len(kinds) != 1:
        what = "total and formation energies side by side" if kinds else "no reference phases"
        raise MlipError(what, where=where, fix=_LAYOUTS)
    compositions, energies, corrections, levels, _ = map(list, zip(*phases, strict=True))
    columns = Energies(
        np.array(energies), np.array(corrections), levels, np.array([len(each) > 1 for each in compositions])
    )
    (are_formation_energies,) = kinds
    note = check_levels(
        columns,
        corrected=not np.isnan(columns.corrections).any(),
        allowed=allow_functional_mismatch,
        where=where,
    )
    return References(compositions, columns, are_formation_energies, where, note)


def atoms_of_composition(numbers: np.ndarray) -> dict[str, float]:
    """The composition of a list of atomic numbers: symbol -> how many."""
    distinct, counts = np.unique(numbers, return_counts=True)
    return {chemical_symbols[z]: float(n) for z, n in zip(distinct, counts, strict=True)}


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise MlipError("no such file or folder", where=str(source))
    if source.is_file() or is_store(source):
        return [source]
    return sorted(path for path in source.iterdir() if ".json" in path.suffixes)


def _phases_in(path: Path) -> Iterator[Phase]:
    if is_store(path):
        yield from _of_store(path)
        return
    functional = _functional_of_file(path)
    for place, item in enumerate(_items(path)):
        try:
            yield _of_record(item, functional)
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
            raise MlipError("has no composition with an energy", where=f"{path}: phase {place}", fix=_LAYOUTS) from None


def _of_store(path: Path) -> Iterator[Phase]:
    """Relaxed structures with their energies; of materials without either there is nothing to say."""
    with Store(path) as store:
        for material in store.materials():
            frame = store.relaxed_frame(material)
            if frame is not None and np.isfinite(frame.energy):
                n = len(frame)
                composition, correction = atoms_of_composition(frame.numbers), correction_of(material) / n
                yield Phase(composition, frame.energy / n, correction, level_of(material))


def correction_of(material: Material) -> float:
    """Correction that its source adds to the energy of a store's material, eV per cell; NaN where it does not say."""
    return float(material.properties.get(CORRECTION, material.properties.get("mp_correction", np.nan)))


def level_of(material: Material) -> str:
    """The functional of a store's material, with Hubbard corrections where its run type tells."""
    return functional_of_run_type(material.properties.get("run_type"), material.functional)


def _functional_of_file(path: Path) -> str:
    """As the names of ALEXANDRIA's files and folders tell it."""
    try:
        return functional_by_name(path)
    except MlipError:
        return UNKNOWN


def _items(path: Path) -> Iterator[Any]:
    """Items of a list, or of the list "entries" of an object, which is read item by item."""
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
    with opener(path, "rb") as file:
        try:
            is_list = file.read(64).lstrip()[:1] == b"["
        except (OSError, EOFError):  # damaged: the streaming reader says so
            is_list = False
        if is_list:
            file.seek(0)
            try:
                yield from json.load(file)
            except (ValueError, OSError, EOFError):
                raise MlipError("is not JSON", where=str(path), fix=_LAYOUTS) from None
            return
    yield from (value for key, value in members(path) if key == "entries")


def _of_record(item: Any, functional: str) -> Phase:
    composition = {str(symbol): float(amount) for symbol, amount in item["composition"].items()}
    parameters, data = item.get("parameters") or {}, item.get("data") or {}
    level = functional_of_run_type(parameters.get("run_type") or data.get("run_type"), functional)
    if "energy" in item:
        n = sum(composition.values())
        # An entry without the key has no correction: that is how pymatgen reads it.
        return Phase(composition, float(item["energy"]) / n, float(item.get("correction") or 0.0) / n, level)
    # Formation energies of GGA and GGA+U are on one scale already.
    return Phase(composition, float(item["e_form"]), 0.0, level.removesuffix("+U"), is_formation_energy=True)
