"""Errors by chemical element: of atoms' forces, of frames' energies, and the part explained by a constant per element.

Two potentials (or a potential and a DFT setting) often differ by a constant per element: another pseudopotential,
another correction. The fit of such offsets separates these from errors that depend on the structure.
"""

from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from scipy.sparse import csr_array, vstack

from mlip.evaluation.comparison import Comparison

_N_ELEMENTS = len(chemical_symbols)  # length of tables by atomic number
_RIDGE = 1e-3
"""Added to the diagonal of the normal equations, in frames, so that elements that only occur together remain
determined."""


def fit_offsets(compositions: csr_array, errors: Float[np.ndarray, " k"]) -> Float[np.ndarray, "119"]:
    """Offset per atom of each element, eV, that explains most of the energy errors (least squares); 0 if absent.

    Args:
        compositions: (k, 119), the fraction of each element in a frame, by atomic number.
        errors: eV/atom.
    """
    normal = (compositions.T @ compositions).toarray() + _RIDGE * np.eye(compositions.shape[1])
    return np.linalg.solve(normal, compositions.T @ errors)


@dataclass
class EnergyErrors:
    """Energy error and composition of each frame, about 40 bytes per frame."""

    errors: list[Float[np.ndarray, " k"]] = field(default_factory=list)
    """Errors, eV/atom; one array for each added set of frames."""
    compositions: list[csr_array] = field(default_factory=list)
    """(k, 119) fractions of the elements; one array for each added set of frames."""

    def add(self, frames: Comparison) -> None:
        """Add the frames with an energy label."""
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
        """Offset per atom by atomic number, eV; see `fit_offsets`."""
        return fit_offsets(vstack(self.compositions), np.concatenate(self.errors))

    @property
    def mae_without_offsets(self) -> float:
        """MAE after subtracting the offsets, eV/atom."""
        unexplained = np.concatenate(self.errors) - vstack(self.compositions) @ self.offsets
        return float(np.abs(unexplained).mean()) if unexplained.size else float("nan")


@dataclass(frozen=True)
class ElementRow:
    """Errors of one element; NaN without labels."""

    element: str
    n_frames: int
    """Number of frames that contain the element."""
    n_atoms: int
    energy_mae: float
    """MAE of the energy over the frames that contain the element, meV/atom."""
    energy_offset: float
    """Fitted energy offset per atom of the element, potential minus label, meV; see `fit_offsets`."""
    forces_mae: float
    """MAE of the force components of the element's atoms, eV/A."""
    forces_mae_zero: float
    """Mean absolute error of F = 0, eV/A."""


def _zeros() -> np.ndarray:
    return np.zeros(_N_ELEMENTS)


@dataclass
class ElementErrors:
    """Sums by atomic number; memory use is constant."""

    n_frames: np.ndarray = field(default_factory=_zeros)
    n_atoms: np.ndarray = field(default_factory=_zeros)
    n_energies: np.ndarray = field(default_factory=_zeros)
    energy: np.ndarray = field(default_factory=_zeros)
    """Sums of the absolute errors per atom, over frames."""
    n_forces: np.ndarray = field(default_factory=_zeros)
    """Number of force components with a label."""
    forces: np.ndarray = field(default_factory=_zeros)
    """Sums of the absolute errors of force components."""
    forces_zero: np.ndarray = field(default_factory=_zeros)

    def add(self, frames: Comparison) -> None:
        numbers, forces = frames.numbers, frames.forces
        # each element of a frame once
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
        """Rows by atomic number; `offsets` in eV per atom."""
        with np.errstate(invalid="ignore"):  # 0 / 0 = NaN means no label
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
    """Sums of `values` (or counts without them) by atomic number, (119,)."""
    return np.bincount(numbers, weights=values, minlength=_N_ELEMENTS)
