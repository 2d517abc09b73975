"""The entries of a campaign: those of the start and all calculated since, with distances to the current hull.

Distances of old entries grow as the hull becomes lower, so each round rewrites its store from the start's store and the
results of the rounds, which never change.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlip.campaign.duplicates import reduced_formula
from mlip.campaign.energies import phases_of
from mlip.data import Frame, Store
from mlip.data.records import Trajectory
from mlip.data.split import assign_split
from mlip.data.store import Material
from mlip.data.writer import StoreWriter
from mlip.hull.growing import GrowingHull
from mlip.hull.phase_files import correction_of

FORMATION_ENERGY, DISTANCE, PHASE_ENERGY = "e_form", "e_above_hull", "phase_energy"
"""Properties of entries; `PHASE_ENERGY` is the energy of an entry as a phase of the hull, eV/atom."""


@dataclass(frozen=True)
class Entry:
    """A calculated crystal."""

    id: str
    frame: Frame
    """Relaxed structure."""
    energy: float
    """Energy as a phase of the hull, eV/atom."""
    functional: str
    dimensionality: int
    properties: dict[str, float | str]


def start_entries(store: Store, are_formation_energies: bool, left_out: Counter[str] | None = None) -> Iterator[Entry]:
    """Entries of the start's store.

    Args:
        are_formation_energies: whether the hull has formation energies; else it has total energies.
        left_out: counter of the reasons why other materials are not entries; updated.
    """
    left_out = Counter() if left_out is None else left_out
    for material in store.materials():
        found = _start_entry(store, material, are_formation_energies)
        if isinstance(found, Entry):
            yield found
        else:
            left_out[found] += 1


def _start_entry(store: Store, material: Material, are_formation_energies: bool) -> Entry | str:
    if not material.has_structure:
        return "composition without structure"
    frame = store.relaxed_frame(material)
    if frame is None:
        return material.why_not_relaxed or "no relaxed structure"
    if are_formation_energies:
        energy = material.properties.get(FORMATION_ENERGY)
    else:
        correction = correction_of(material)  # NaN where the source states none
        energy = (frame.energy + (correction if np.isfinite(correction) else 0.0)) / len(frame)
    if not isinstance(energy, float | int) or not np.isfinite(energy):
        return f"no {FORMATION_ENERGY}" if are_formation_energies else "no energy"
    properties = dict(material.properties)
    return Entry(material.id, frame, float(energy), material.functional, material.dimensionality, properties)


def results_in(path: Path) -> Iterator[Entry]:
    """New entries of a round, read from its results store."""
    with Store(path) as store:
        for material in store.materials():
            energy = float(material.properties[PHASE_ENERGY])
            frame = store.frame(material.frames[-1])
            properties = dict(material.properties)
            yield Entry(material.id, frame, energy, material.functional, material.dimensionality, properties)


def write_results(path: Path, entries: Sequence[Entry], settings: dict[str, Any]) -> None:
    """Write a store of a round's new entries."""
    with StoreWriter(path, settings) as store:
        for entry in entries:
            properties = {**entry.properties, PHASE_ENERGY: entry.energy}
            store.add(_trajectory(entry, properties), "train")


def write_entries(
    path: Path,
    entries: Iterator[Entry],
    hull: GrowingHull,
    split: tuple[float, float, float],
    seed: int,
    settings: dict[str, Any],
) -> int:
    """Write a store of entries with their distances to the hull; returns the number of entries.

    All entries of a composition are in one split, the same in every round.
    """
    n_entries = 0
    vertices = hull.vertices
    with StoreWriter(path, settings) as store:
        for block in in_blocks(entries):
            frames, energies = [entry.frame for entry in block], np.array([entry.energy for entry in block])
            distances = np.maximum(vertices.distances(phases_of(frames, energies)), 0.0)
            for entry, distance in zip(block, distances.tolist(), strict=True):
                labels = {DISTANCE: distance}
                if hull.are_formation_energies:
                    labels[FORMATION_ENERGY] = entry.energy
                properties = {key: value for key, value in entry.properties.items() if key != PHASE_ENERGY}
                of_composition = assign_split(reduced_formula(entry.frame.numbers), seed, split)
                store.add(_trajectory(entry, properties | labels), of_composition)
                n_entries += 1
    return n_entries


def _trajectory(entry: Entry, properties: dict[str, float | str]) -> Trajectory:
    return Trajectory(entry.id, (entry.frame,), entry.functional, entry.dimensionality, properties)


_BLOCK = 4096


def in_blocks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """The entries in lists of up to 4096."""
    block: list[Entry] = []
    for entry in entries:
        block.append(entry)
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block
