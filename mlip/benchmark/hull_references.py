"""Reference phases of a hull from files: a store, ALEXANDRIA's or pymatgen's computed entries, or formation energies.

All phases of a hull must have energies of one kind and one level of theory. Energies are totals, with corrections where
entries have them; or formation energies, where there are no others.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import chemical_symbols

from mlip.benchmark.hull import Hulls, Phases
from mlip.data import Store
from mlip.data.json_stream import members
from mlip.data.shard import is_store
from mlip.errors import MlipError

_LAYOUTS = "a store, JSON of entries (composition, energy) or of phases (composition, e_form)"
Phase = tuple[dict[str, float], float]
"""Composition, eV/atom."""


class References(NamedTuple):
    hulls: Hulls
    are_formation_energies: bool
    n_phases: int


def read_references(sources: Sequence[Path]) -> References:
    """
    Args:
        sources: stores, JSON files (also .gz, .bz2), or folders of either.

    Raises:
        MlipError: no such file, none of the layouts, total and formation energies side by side.
    """
    found: dict[bool, list[Phase]] = defaultdict(list)
    for source in sources:
        for path in _files(source):
            for phase, is_formation_energy in _phases_in(path):
                found[is_formation_energy].append(phase)
    if len(found) != 1:
        what = "total and formation energies side by side" if found else "no reference phases"
        raise MlipError(what, where=", ".join(map(str, sources)), fix=_LAYOUTS)
    ((are_formation_energies, phases),) = found.items()
    compositions, energies = zip(*phases, strict=True)
    hulls = Hulls(Phases.of(compositions, np.array(energies)), are_formation_energies=are_formation_energies)
    return References(hulls, are_formation_energies, len(phases))


def composition_of(numbers: np.ndarray) -> dict[str, float]:
    """Of atomic numbers: symbol -> how many."""
    distinct, counts = np.unique(numbers, return_counts=True)
    return {chemical_symbols[z]: float(n) for z, n in zip(distinct, counts, strict=True)}


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise MlipError("no such file or folder", where=str(source))
    if source.is_file() or is_store(source):
        return [source]
    return sorted(path for path in source.iterdir() if ".json" in path.suffixes)


def _phases_in(path: Path) -> Iterator[tuple[Phase, bool]]:
    """Phases, and whether their energies are formation energies."""
    if is_store(path):
        yield from _of_store(path)
        return
    for place, item in enumerate(_items(path)):
        try:
            yield _of_record(item)
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
            raise MlipError("has no composition with an energy", where=f"{path}: phase {place}", fix=_LAYOUTS) from None


def _of_store(path: Path) -> Iterator[tuple[Phase, bool]]:
    """Relaxed structures with their energies; of materials without one there is nothing to say."""
    with Store(path) as store:
        for material in store.materials():
            frame = store.frame(material.frames[-1])
            if np.isfinite(frame.energy):
                yield (composition_of(frame.numbers), frame.energy / len(frame)), False


def _items(path: Path) -> Iterator[Any]:
    """Of a list, or of the list "entries" of an object, which is read item by item."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        is_list = path.suffix != ".bz2" and file.read(64).lstrip()[:1] == b"["
        if is_list:
            file.seek(0)
            try:
                yield from json.load(file)
            except ValueError:
                raise MlipError("is not JSON", where=str(path), fix=_LAYOUTS) from None
            return
    yield from (value for key, value in members(path) if key == "entries")


def _of_record(item: Any) -> tuple[Phase, bool]:
    composition = {str(symbol): float(amount) for symbol, amount in item["composition"].items()}
    if "energy" in item:
        total = float(item["energy"]) + float(item.get("correction") or 0.0)
        return (composition, total / sum(composition.values())), False
    return (composition, float(item["e_form"])), True
