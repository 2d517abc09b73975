"""Reference energies and label scales of a store, in one streaming pass.

The reference energies E0 are the least-squares solution of sum_i E0(Z_i) = E over all frames, the part of the energy
that a model need not learn. Only the normal equations (119 x 119) are kept, whatever the number of frames.
"""

import json
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from mlip.data.absurd_energies import SPREAD, AbsurdEnergies, compositions, sample_of
from mlip.data.force_scale import ForceSums
from mlip.data.store import Store
from mlip.errors import MlipError

_N_ELEMENTS = len(chemical_symbols)

_NAMED = 20
_SINGULAR = 1e-10
"""Relative size below which an eigenvalue of the normal equations is rounding error: its combination of elements never
varies on its own in the data (Na and Cl, if all crystals are NaCl)."""


@dataclass(frozen=True, slots=True)
class LabelStatistics:
    """Statistics of the frames of a split. Missing labels are ignored."""

    reference_energies: dict[str, float]
    """E0 by element symbol, eV. Where the data cannot distinguish elements, the solution of least norm."""
    n_frames: int
    n_atoms: int
    elements: list[str]
    """Element symbols, by atomic number."""
    force_rms: float
    """Root mean square of the force components, eV/A; NaN without forces."""
    energy_rms_per_atom: float
    """Root mean square of (E - sum E0) / n_atoms over frames, eV/atom; NaN without energies."""
    robust_force_rms: float = float("nan")
    """`force_rms` without frames of absurd forces (`mlip.data.force_scale`), equal to it if there are none; NaN in
    statistics that are older than this field."""
    n_absurd_forces: int = 0
    """Number of frames with absurd forces."""
    absurd_frames: list[tuple[int, float]] = field(default_factory=list)
    """The worst frames with absurd forces: index in the store, and largest component, eV/A."""
    n_absurd_energies: int = 0
    """Number of frames with absurd energies (`mlip.data.absurd_energies`); all statistics of energies leave them
    out."""
    absurd_energies: list[tuple[int, float]] = field(default_factory=list)
    """The worst frames with absurd energies: index in the store, and difference from a robust fit, eV/atom."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "LabelStatistics":
        values = json.loads(text)
        lists = ("absurd_frames", "absurd_energies")
        return cls(**values | {name: [tuple(frame) for frame in values.get(name, ())] for name in lists})


def compute_statistics(store: Store, split: str | None = "train", functional: str | None = None) -> LabelStatistics:
    """Statistics of the frames of a split and a functional; None stands for all.

    Raises:
        MlipError: there are no such frames.
    """
    sums = StatisticsSums()
    for block in store.blocks(("frames/energy", "atoms/number", "atoms/force"), split, functional):
        sums.add(**block)
    if not sums.n_frames:
        of_functional = f" of the functional {functional}" if functional else ""
        raise MlipError(f"no frame{of_functional} in the split {split!r}", where=str(store.path))
    found = sums.statistics()
    if sums.energy_spread > SPREAD:
        found = _without_absurd_energies(store, split, functional, found)
    if not found.n_absurd_forces and not found.n_absurd_energies:
        return found
    indices = store.indices(split, functional)
    return replace(
        found,
        absurd_frames=[(int(indices[k]), largest) for k, largest in found.absurd_frames],
        absurd_energies=[(int(indices[k]), distance) for k, distance in found.absurd_energies],
    )


def _without_absurd_energies(
    store: Store, split: str | None, functional: str | None, known: LabelStatistics
) -> LabelStatistics:
    """Statistics in which the few frames with absurd energies, if there are any, have no energy; frames are numbered in
    the order of the pass. Takes two further passes."""
    columns = ("frames/energy", "atoms/number", "atoms/force")
    otherwise = np.array([known.reference_energies.get(symbol, 0.0) for symbol in chemical_symbols])
    sample = sample_of(store.blocks(columns[:2], split, functional), known.n_frames)
    absurd = AbsurdEnergies(*sample, otherwise)
    if not absurd.are_few:
        return known
    sums, found = StatisticsSums(), []
    for block in store.blocks(columns, split, functional):
        composition = compositions(block["number"], block["size"])
        is_absurd = np.isfinite(block["energy"]) & absurd.among(composition, block["energy"])
        distances = absurd.residuals(composition, block["energy"])
        found += [(sums.n_frames + int(k), float(distances[k])) for k in np.flatnonzero(is_absurd)]
        sums.add(**block | {"energy": np.where(is_absurd, np.nan, block["energy"])})
    worst = sorted(found, key=lambda frame: -abs(frame[1]))[:_NAMED]
    return replace(sums.statistics(), n_absurd_energies=len(found), absurd_energies=worst)


class StatisticsSums:
    """Sums that a pass over the frames accumulates."""

    def __init__(self) -> None:
        self.n_frames = self._n_energies = 0
        self._counts = np.zeros(_N_ELEMENTS, dtype=np.int64)
        self._total = _NormalEquations()
        self._per_atom = _NormalEquations()
        self._forces = ForceSums()
        self._least, self._largest = np.inf, -np.inf

    @property
    def energy_spread(self) -> float:
        """Difference between the largest and the smallest energy per atom, eV/atom; -inf without energies."""
        return float(self._largest - self._least)

    def add(
        self,
        energy: Float[np.ndarray, " k"],
        number: Int[np.ndarray, " n"],
        force: Float[np.ndarray, "n 3"],
        size: Int[np.ndarray, " k"],
    ) -> None:
        """Add a block of frames. Energies are eV per cell, forces eV/A; `size` is the number of atoms of each frame."""
        composition = compositions(number, size)
        self.n_frames += len(energy)
        self._counts += composition.sum(axis=0)
        known = np.isfinite(energy)
        self._n_energies += int(known.sum())
        rows, energies, sizes = composition[known].astype(np.float64), energy[known], size[known]
        if len(energies):
            per_atom = energies / sizes
            self._least, self._largest = min(self._least, per_atom.min()), max(self._largest, per_atom.max())
        self._total.add(rows, energies)
        self._per_atom.add(rows / sizes[:, None], energies / sizes)
        self._forces.add(force, size)

    def statistics(self) -> LabelStatistics:
        """Statistics of all frames that were added; frames are numbered in that order."""
        forces = self._forces.scale()
        present = np.flatnonzero(self._counts)
        reference = self._reference_energies(present)
        return LabelStatistics(
            reference_energies={chemical_symbols[z]: float(e) for z, e in zip(present, reference, strict=True)},
            n_frames=self.n_frames,
            n_atoms=int(self._counts.sum()),
            elements=[chemical_symbols[z] for z in present],
            force_rms=forces.rms,
            energy_rms_per_atom=self._energy_rms_per_atom(present, reference),
            robust_force_rms=forces.robust_rms,
            n_absurd_forces=forces.n_absurd,
            absurd_frames=[tuple(frame) for frame in forces.absurd],
        )

    def _reference_energies(self, elements: Int[np.ndarray, " e"]) -> Float[np.ndarray, " e"]:
        if not self._n_energies:
            return np.full(len(elements), np.nan)
        return self._total.solution(elements)

    def _energy_rms_per_atom(self, elements: Int[np.ndarray, " e"], reference: Float[np.ndarray, " e"]) -> float:
        if not self._n_energies:
            return float("nan")
        return float(np.sqrt(self._per_atom.residual_square(elements, reference) / self._n_energies))


class _NormalEquations:
    """A^T A, A^T y and y^T y of a least-squares problem whose rows come in blocks."""

    def __init__(self) -> None:
        self._gram = np.zeros((_N_ELEMENTS, _N_ELEMENTS))
        self._moment = np.zeros(_N_ELEMENTS)
        self._square = 0.0

    def add(self, rows: Float[np.ndarray, "k e"], values: Float[np.ndarray, " k"]) -> None:
        self._gram += rows.T @ rows
        self._moment += rows.T @ values
        self._square += float(values @ values)

    def solution(self, columns: Int[np.ndarray, " e"]) -> Float[np.ndarray, " e"]:
        gram = self._gram[np.ix_(columns, columns)]
        return np.linalg.pinv(gram, rcond=_SINGULAR, hermitian=True) @ self._moment[columns]

    def residual_square(self, columns: Int[np.ndarray, " e"], x: Float[np.ndarray, " e"]) -> float:
        """Squared residual |A x - y|^2."""
        gram = self._gram[np.ix_(columns, columns)]
        return max(0.0, float(x @ gram @ x - 2 * x @ self._moment[columns] + self._square))
