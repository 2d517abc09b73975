"""Reference energies and label scales of a store, in one streaming pass.

The reference energies E0 are the least-squares solution of sum_i E0(Z_i) = E over all frames: what a model
need not learn. The pass keeps the normal equations only (119 x 119), whatever the number of frames.
"""

import json
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from mlip.data.force_scale import ForceSums
from mlip.data.store import Store
from mlip.errors import MlipError

_N_ELEMENTS = len(chemical_symbols)

_SINGULAR = 1e-10
"""Relative size below which an eigenvalue of the normal equations is rounding: its combination of elements
never varies on its own in the data (Na and Cl, if all crystals are NaCl)."""


@dataclass(frozen=True, slots=True)
class LabelStatistics:
    """Statistics of the frames of a split. Labels that are missing count nowhere."""

    reference_energies: dict[str, float]
    """Symbol -> E0, eV. Where the data cannot tell elements apart, the solution of least norm."""
    n_frames: int
    n_atoms: int
    elements: list[str]
    """Symbols, by atomic number."""
    force_rms: float
    """Root mean square of the force components, eV/A; NaN without forces."""
    energy_rms_per_atom: float
    """Root mean square of (E - sum E0) / n_atoms over frames, eV/atom; NaN without energies."""
    robust_force_rms: float = float("nan")
    """`force_rms` without frames of absurd forces (`mlip.data.force_scale`): the same number if there are none; NaN in
    statistics of before it was known."""
    n_absurd_forces: int = 0
    """Frames of absurd forces."""
    absurd_frames: list[tuple[int, float]] = field(default_factory=list)
    """The worst of them: index in the store, and largest component, eV/A."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "LabelStatistics":
        values = json.loads(text)
        return cls(**values | {"absurd_frames": [tuple(frame) for frame in values.get("absurd_frames", ())]})


def compute_statistics(store: Store, split: str | None = "train", functional: str | None = None) -> LabelStatistics:
    """Statistics of the frames of a split and of a functional (None: of all).

    Raises:
        MlipError: there are none.
    """
    sums = StatisticsSums()
    for block in store.blocks(("frames/energy", "atoms/number", "atoms/force"), split, functional):
        sums.add(**block)
    if not sums.n_frames:
        of_functional = f" of the functional {functional}" if functional else ""
        raise MlipError(f"no frame{of_functional} in the split {split!r}", where=str(store.path))
    found = sums.statistics()
    if not found.n_absurd_forces:
        return found
    indices = store.indices(split, functional)
    return replace(found, absurd_frames=[(int(indices[k]), largest) for k, largest in found.absurd_frames])


class StatisticsSums:
    """Sums that a pass adds up."""

    def __init__(self) -> None:
        self.n_frames = self._n_energies = 0
        self._counts = np.zeros(_N_ELEMENTS, dtype=np.int64)
        self._total = _NormalEquations()
        self._per_atom = _NormalEquations()
        self._forces = ForceSums()

    def add(
        self,
        energy: Float[np.ndarray, " k"],
        number: Int[np.ndarray, " n"],
        force: Float[np.ndarray, "n 3"],
        size: Int[np.ndarray, " k"],
    ) -> None:
        """A block of frames. Energies are eV per cell, forces eV/A; `size`: atoms of each frame."""
        k = len(energy)
        cells = np.repeat(np.arange(k), size) * _N_ELEMENTS + number
        composition = np.bincount(cells, minlength=k * _N_ELEMENTS).reshape(k, _N_ELEMENTS)
        self.n_frames += k
        self._counts += composition.sum(axis=0)
        known = np.isfinite(energy)
        self._n_energies += int(known.sum())
        rows, energies, sizes = composition[known].astype(np.float64), energy[known], size[known]
        self._total.add(rows, energies)
        self._per_atom.add(rows / sizes[:, None], energies / sizes)
        self._forces.add(force, size)

    def statistics(self) -> LabelStatistics:
        """Statistics of all that was added; frames are numbered as they came."""
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
        """|A x - y|^2."""
        gram = self._gram[np.ix_(columns, columns)]
        return max(0.0, float(x @ gram @ x - 2 * x @ self._moment[columns] + self._square))
