"""Summary of a store from one streaming pass, kept beside the store with a fingerprint of the store's content.

By functional: reference energies from least squares and from a robust fit, and ranges of the labels. For all frames:
elements, sizes, neighbors. Memory holds a block of frames and a sample of them, whatever the store's size.
"""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.neighborlist import primitive_neighbor_list
from jaxtyping import Float, Int

from mlip.data.absurd_energies import compositions, robust_fit
from mlip.data.label_statistics import StatisticsSums
from mlip.data.store import Store
from mlip.files.whole_file import whole_file

SUMMARY_VERSION = 1
_N_ELEMENTS = len(chemical_symbols)

_SAMPLE = 20_000
"""Number of frames, evenly spread over the store, in the robust fit."""
_NEIGHBOR_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class OfFunctional:
    """Summary of the frames of one functional. Ranges are [smallest, largest], or [] if no frame has the label."""

    n_frames: int
    n_atoms: int
    reference_energies: dict[str, float]
    """E0 by element symbol, eV, from least squares."""
    robust_reference_energies: dict[str, float]
    """E0 by element symbol, eV, from Huber's loss on a sample, which is less sensitive to outliers."""
    energy_rms_per_atom: float
    """Root mean square of (E - sum E0) / n_atoms, eV/atom."""
    force_rms: float
    """Root mean square of the force components, eV/A."""
    energy_per_atom: list[float]
    """Range of the energies, eV/atom."""
    force: list[float]
    """Range of the force components, eV/A."""
    stress: list[float]
    """Range of the stress components, eV/A^3."""


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """Summary of a whole store."""

    fingerprint: str
    version: int
    cutoff: float
    """Cutoff for neighbors, A."""
    mean_neighbors: float
    """Mean number of neighbors within the cutoff, per atom of a sample."""
    frames_with_element: dict[str, int]
    atoms_of_element: dict[str, int]
    frames_of_size: dict[str, int]
    """Number of frames by number of atoms."""
    functionals: dict[str, OfFunctional]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "StoreSummary":
        functionals = {name: OfFunctional(**of_one) for name, of_one in values["functionals"].items()}
        return cls(**values | {"functionals": functionals})


def summary_of(store: Store, cutoff: float = 5.0) -> StoreSummary:
    """Summary of a store: the one kept beside it if it fits the store and the cutoff; else computed, and kept if the
    folder is writable.

    Raises:
        MlipError: the store is damaged.
    """
    kept = _summary_file(store.path)
    fingerprint = store.content_sha256
    try:
        known = StoreSummary.from_dict(json.loads(kept.read_text()))
        if (known.fingerprint, known.version, known.cutoff) == (fingerprint, SUMMARY_VERSION, cutoff):
            return known
    except (OSError, ValueError, KeyError, TypeError):  # absent, or from another version of mlip
        pass
    summary = compute_summary(store, cutoff)
    with suppress(OSError), whole_file(kept) as partial:  # the store may be read-only
        partial.write_text(json.dumps(asdict(summary)) + "\n")
    return summary


def compute_summary(store: Store, cutoff: float = 5.0) -> StoreSummary:
    """Compute the summary of a store's frames, all splits together."""
    n_frames: Counter[str] = Counter()
    for material in store.materials():
        n_frames[material.functional] += len(material.frames)
    counts = _Counts()
    functionals = {name: _of_functional(store, name, n, counts) for name, n in sorted(n_frames.items())}
    return StoreSummary(
        fingerprint=store.content_sha256,
        version=SUMMARY_VERSION,
        cutoff=cutoff,
        mean_neighbors=_mean_neighbors(store, cutoff),
        frames_with_element=_by_symbol(counts.frames_with_element),
        atoms_of_element=_by_symbol(counts.atoms_of_element),
        frames_of_size={str(size): n for size, n in sorted(counts.frames_of_size.items())},
        functionals=functionals,
    )


class _Counts:
    """Counts over the frames of all functionals."""

    def __init__(self) -> None:
        self.frames_with_element = np.zeros(_N_ELEMENTS, np.int64)
        self.atoms_of_element = np.zeros(_N_ELEMENTS, np.int64)
        self.frames_of_size: dict[int, int] = {}

    def add(self, composition: Int[np.ndarray, "k e"], size: Int[np.ndarray, " k"]) -> None:
        self.frames_with_element += (composition > 0).sum(axis=0)
        self.atoms_of_element += composition.sum(axis=0)
        for n_atoms, n_frames in zip(*np.unique(size, return_counts=True), strict=True):
            self.frames_of_size[int(n_atoms)] = self.frames_of_size.get(int(n_atoms), 0) + int(n_frames)


class _Range:
    def __init__(self) -> None:
        self.ends: list[float] = []

    def add(self, values: Float[np.ndarray, "..."]) -> None:
        known = values[np.isfinite(values)]
        if known.size:
            ends = [*self.ends, float(known.min()), float(known.max())]
            self.ends = [min(ends), max(ends)]


def _of_functional(store: Store, name: str, n_frames: int, counts: _Counts) -> OfFunctional:
    sums = StatisticsSums()
    energy, force, stress = _Range(), _Range(), _Range()
    stride = max(1, n_frames // _SAMPLE)
    rows, energies = [], []
    columns = ("frames/energy", "frames/stress", "atoms/number", "atoms/force")
    for block in store.blocks(columns, None, name):
        stress.add(block.pop("stress"))
        sums.add(**block)
        size = block["size"]
        composition = compositions(block["number"], size)
        counts.add(composition, size)
        energy.add(block["energy"] / size)
        force.add(block["force"])
        known = np.flatnonzero(np.isfinite(block["energy"]))[::stride]
        rows.append(composition[known])
        energies.append(block["energy"][known])
    statistics = sums.statistics()
    return OfFunctional(
        n_frames=statistics.n_frames,
        n_atoms=statistics.n_atoms,
        reference_energies=statistics.reference_energies,
        robust_reference_energies=robust_reference_energies(np.concatenate(rows), np.concatenate(energies)),
        energy_rms_per_atom=statistics.energy_rms_per_atom,
        force_rms=statistics.force_rms,
        energy_per_atom=energy.ends,
        force=force.ends,
        stress=stress.ends,
    )


def robust_reference_energies(
    composition: Int[np.ndarray, "k e"], energies: Float[np.ndarray, " k"]
) -> dict[str, float]:
    """E0 of the robust fit by element symbol, eV; {} without energies.

    Args:
        composition: number of atoms of each element in each frame; columns by atomic number.
        energies: eV per cell.
    """
    if not len(energies):
        return {}
    fitted = robust_fit(composition, energies)
    return {chemical_symbols[z]: float(fitted[z]) for z in np.flatnonzero(composition.sum(axis=0))}


def _mean_neighbors(store: Store, cutoff: float) -> float:
    """Mean number of neighbors per atom in frames evenly spread over the store; all periodic images count."""
    n_neighbors = n_atoms = 0
    for k in np.unique(np.linspace(0, len(store) - 1, min(_NEIGHBOR_SAMPLE, len(store))).astype(int)):
        frame = store.frame(int(k))
        if frame.amounts is not None:
            continue  # a composition without a structure
        n_neighbors += len(primitive_neighbor_list("i", frame.pbc, frame.cell, frame.positions, cutoff))
        n_atoms += len(frame)
    return n_neighbors / n_atoms if n_atoms else 0.0


def _by_symbol(counts: Int[np.ndarray, " e"]) -> dict[str, int]:
    return {chemical_symbols[z]: int(counts[z]) for z in np.flatnonzero(counts)}


def _summary_file(path: Path) -> Path:
    return path / "statistics.json" if path.is_dir() else path.with_name(f"{path.name}.statistics.json")
