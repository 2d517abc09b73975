"""Errors by chemical element: of the atoms' forces, of the frames' energies, and what a constant an element explains.

Two potentials (or a potential and a DFT setting) often differ by a constant an element: another pseudopotential,
another correction. The fit of such offsets tells that apart from errors that depend on the structure.
"""

from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from scipy.sparse import csr_array, vstack

from mlip.evaluation.comparison import Comparison

_N_ELEMENTS = len(chemical_symbols)  # of tables by atomic number
_RIDGE = 1e-3
"""Added to the diagonal of the normal equations, in frames: elements that only occur together stay determined."""


def fit_offsets(compositions: csr_array, errors: Float[np.ndarray, " k"]) -> Float[np.ndarray, "119"]:
    """The offset an atom of each element, eV, that explains most of the energy errors (least squares); 0 if absent.

    Args:
        compositions: (k, 119), the fraction of each element in a frame, by atomic number.
        errors: eV/atom.
    """
    normal = (compositions.T @ compositions).toarray() + _RIDGE * np.eye(compositions.shape[1])
    return np.linalg.solve(normal, compositions.T @ errors)


@dataclass
class EnergyErrors:
    """The energy error of each frame with its composition, about 40 bytes a frame."""

    errors: list[Float[np.ndarray, " k"]] = field(default_factory=list)
    """eV/atom; a part for each set of frames that was added."""
    compositions: list[csr_array] = field(default_factory=list)
    """(k, 119) fractions of the elements, likewise."""

    def add(self, frames: Comparison) -> None:
        """Frames without a label are left out."""
        frames = frames.at(~np.isnan(frames.energy.labels))
        self.errors.append(frames.energy.errors)
        fractions = np.repeat(1 / frames.n_atoms, frames.n_atoms).astype(np.float32)
        starts = np.concatenate([[0], np.cumsum(frames.n_atoms)]).astype(np.int32)
        elements = frames.numbers.astype(np.int32)
        composition = csr_array((fractions, elements, starts), shape=(frames.n_frames, _N_ELEMENTS))
        composition.sum_duplicates()
        self.compositions.append(composition)

    def merge(self, other: "EnergyErrors") -> None:
        self.errors.extend(other.errors)
        self.compositions.extend(other.compositions)

    @property
    def median(self) -> float:
        """Median of the absolute errors, eV/atom."""
        errors = np.concatenate(self.errors)
        return float(np.median(np.abs(errors))) if errors.size else float("nan")

    @property
    def offsets(self) -> Float[np.ndarray, "119"]:
        """eV an atom, by atomic number; see `fit_offsets`."""
        return fit_offsets(vstack(self.compositions), np.concatenate(self.errors))

    @property
    def mae_without_offsets(self) -> float:
        """MAE of what the offsets do not explain, eV/atom."""
        unexplained = np.concatenate(self.errors) - vstack(self.compositions) @ self.offsets
        return float(np.abs(unexplained).mean()) if unexplained.size else float("nan")


@dataclass(frozen=True)
class ElementRow:
    """Errors of one element; NaN where there are no labels."""

    element: str
    n_frames: int
    """Number of frames that contain the element."""
    n_atoms: int
    energy_mae: float
    """meV/atom, over the frames that contain it."""
    energy_offset: float
    """Its share of the energy errors, meV an atom of it: see `fit_offsets`. Potential minus label."""
    forces_mae: float
    """eV/A, over the components of its atoms."""
    forces_mae_zero: float
    """Mean absolute error of F = 0, eV/A."""


def _zeros() -> np.ndarray:
    return np.zeros(_N_ELEMENTS)


@dataclass
class ElementErrors:
    """Sums by atomic number, constant in memory."""

    n_frames: np.ndarray = field(default_factory=_zeros)
    n_atoms: np.ndarray = field(default_factory=_zeros)
    n_energies: np.ndarray = field(default_factory=_zeros)
    energy: np.ndarray = field(default_factory=_zeros)
    """Sums of the absolute errors an atom, over frames."""
    n_forces: np.ndarray = field(default_factory=_zeros)
    """Components with a label."""
    forces: np.ndarray = field(default_factory=_zeros)
    """Sums of the absolute errors."""
    forces_zero: np.ndarray = field(default_factory=_zeros)

    def add(self, frames: Comparison) -> None:
        numbers, forces = frames.numbers, frames.forces
        # Each element of a frame once.
        frame, element = np.divmod(np.unique(frames.frame_of_atom * _N_ELEMENTS + numbers), _N_ELEMENTS)
        self.n_frames += _by_element(element)
        self.n_atoms += _by_element(numbers)
        has_energy = ~np.isnan(frames.energy.labels)[frame]
        self.n_energies += _by_element(element, has_energy)
        self.energy += _by_element(element, np.nan_to_num(np.abs(frames.energy.errors))[frame])
        self.n_forces += _by_element(numbers, (~np.isnan(forces.labels)).sum(axis=1))
        self.forces += _by_element(numbers, np.nansum(np.abs(forces.errors), axis=1))
        self.forces_zero += _by_element(numbers, np.nansum(np.abs(forces.labels), axis=1))

    def rows(self, offsets: Float[np.ndarray, "119"]) -> list[ElementRow]:
        """By atomic number; `offsets` in eV an atom."""
        with np.errstate(invalid="ignore"):  # 0 / 0 = NaN: no label
            energy = 1000 * self.energy / self.n_energies
            forces, forces_zero = self.forces / self.n_forces, self.forces_zero / self.n_forces
        offsets = np.where(self.n_energies > 0, 1000 * offsets, np.nan)
        return [
            ElementRow(
                element=chemical_symbols[z],
                n_frames=int(self.n_frames[z]),
                n_atoms=int(self.n_atoms[z]),
                energy_mae=float(energy[z]),
                energy_offset=float(offsets[z]),
                forces_mae=float(forces[z]),
                forces_mae_zero=float(forces_zero[z]),
            )
            for z in np.flatnonzero(self.n_atoms)
        ]


def _by_element(numbers: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"] | None = None) -> np.ndarray:
    """Sums of `values` (how many without) by atomic number, (119,)."""
    return np.bincount(numbers, weights=values, minlength=_N_ELEMENTS)
