"""Result of a relaxation: the structure, its energy, and the reason it stopped."""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from jaxtyping import Float

if TYPE_CHECKING:
    from pymatgen.core import Structure


class Reason(IntEnum):
    """Why a structure's relaxation ended; the codes are the device's."""

    PADDING = 0
    """Not a structure."""
    RUNNING = 1
    """Not ended yet."""
    CONVERGED = 2
    """Every row of forces, atoms and cell, is shorter than fmax, and the residual stress below smax if one is set."""
    MAX_STEPS = 3
    """It used up its steps; the structure is the last one."""
    NON_FINITE = 4
    """NaN or infinity in energy, forces or stress."""
    EXPLODED = 5
    """A component of the logarithmic strain is larger than `Options.max_strain`."""
    COLLAPSED = 6
    """Two atoms, or an atom and its image, are closer than atoms can be (`mlip.relaxation.guards`), or the potential
    saturates: bonded atoms without any force or stress."""
    ISOLATED = 7
    """An atom that had neighbors lost all of them, or no atom has any, or none feels a force."""
    ERROR = 8
    """It could not be started or continued: unknown element, coincident atoms, unusable cell, a constraint that cannot
    be kept; see `message`."""


CERTAINTY = ("energy_std", "relative_volume_std", "do_not_trust")
"""Further entries of records of a potential with an uncertainty."""


@dataclass(frozen=True)
class RelaxResult:
    """One relaxation. Energies in eV (total, reference energies included), fmax in eV/A."""

    atoms: Atoms
    """A copy of the input with the final positions and cell, and with energy, forces and stress attached as a
    single-point calculator where they are known."""
    energy: float
    """NaN where it is not known."""
    converged: bool
    reason: str
    """converged, max_steps, non_finite, exploded, collapsed, isolated or error."""
    n_steps: int
    fmax: float
    """The longest row of forces at the end, cell rows included."""
    initial_energy: float
    message: str | None = None
    """The fault, where `reason` is error, or what a guard has seen."""
    max_stress: float = float("nan")
    """Largest component of the residual stress, any pressure added, eV/A^3: of the strains that relax, or of all where
    the cell is fixed. NaN without a volume."""
    trajectory: list[Atoms] | None = None
    """Every structure on the way, first and last included, with energy, forces and stress; where it was asked for."""
    energy_std: float | None = None
    """Standard deviation of the energy, eV, where the potential knows one and the relaxation has not failed."""
    relative_volume_std: float | None = None
    """Standard deviation of the volume, as a share of it (`mlip.uncertainty.relaxed`); None of a cell that is fixed."""
    do_not_trust: bool | None = None
    """Half the 90 % interval of the energy per atom is wider than the threshold in the potential's file; None of one
    that was not calibrated."""

    @property
    def failed(self) -> bool:
        """Ended by a guard or an error: there is no relaxed structure. (max_steps is a structure, not converged.)"""
        return self.reason not in ("converged", "max_steps")

    @property
    def structure(self) -> "Structure":
        """The final structure as a pymatgen Structure."""
        from pymatgen.io.ase import AseAtomsAdaptor

        return AseAtomsAdaptor.get_structure(self.atoms)

    def as_record(self) -> dict[str, Any]:
        """A JSON-able dict; what is not a number is None."""
        atoms = self.atoms
        return {
            "reason": self.reason,
            "converged": self.converged,
            "n_steps": self.n_steps,
            "energy": finite_or_none(self.energy),
            "initial_energy": finite_or_none(self.initial_energy),
            "fmax": finite_or_none(self.fmax),
            "max_stress": finite_or_none(self.max_stress),
            "message": self.message,
            "numbers": atoms.numbers.tolist(),
            "cell": rows_or_none(atoms.cell.array),
            "positions": rows_or_none(atoms.positions),
            "pbc": atoms.pbc.tolist(),
            **self._certainty(),
        }

    def _certainty(self) -> dict[str, Any]:
        """The potential's knowledge of its own error; mostly nothing."""
        return {key: value for key in CERTAINTY if (value := getattr(self, key)) is not None}


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def rows_or_none(array: Float[np.ndarray, "n k"]) -> list[list[float | None]]:
    """Nested lists to 1e-10; what is not finite is None."""
    return [[round(value, 10) if math.isfinite(value) else None for value in row] for row in array.tolist()]
