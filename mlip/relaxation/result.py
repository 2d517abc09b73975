"""Result of a relaxation: the structure, its energy, and the reason why it stopped."""

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
    """Reason why a relaxation ended; the integer codes are used on the device."""

    PADDING = 0
    """Not a structure."""
    RUNNING = 1
    """Not ended yet."""
    CONVERGED = 2
    """Every force row of atoms and cell is shorter than fmax, and the residual stress is below smax if that is set."""
    MAX_STEPS = 3
    """The maximum number of steps was reached; the structure is that of the last step."""
    NON_FINITE = 4
    """Energy, forces or stress are NaN or infinite."""
    EXPLODED = 5
    """A component of the logarithmic strain exceeds `Options.max_strain`."""
    COLLAPSED = 6
    """Two atoms, or an atom and its image, are too close (`mlip.relaxation.guards`), or the potential saturates: bonded
    atoms without any force or stress."""
    ISOLATED = 7
    """An atom that had neighbors lost all of them, no atom has neighbors, or none feels a force."""
    ERROR = 8
    """The relaxation could not start or continue: unknown element, coincident atoms, unusable cell, or unsupported
    constraint; see `message`."""


CERTAINTY = ("energy_std", "relative_volume_std", "do_not_trust")
"""Additional entries of records for potentials with an uncertainty."""


@dataclass(frozen=True)
class RelaxResult:
    """Result of one relaxation. Energies in eV (total, including reference energies), fmax in eV/A."""

    atoms: Atoms
    """Copy of the input with the final positions and cell, and with known energy, forces and stress attached as a
    single-point calculator."""
    energy: float
    """Final total energy, eV; NaN if unknown."""
    converged: bool
    reason: str
    """One of converged, max_steps, non_finite, exploded, collapsed, isolated and error."""
    n_steps: int
    fmax: float
    """Largest norm of a force row at the end, including cell rows, eV/A."""
    initial_energy: float
    message: str | None = None
    """Error message if `reason` is error, or what triggered a guard."""
    max_stress: float = float("nan")
    """Largest component of the residual stress, including external pressure, eV/A^3: for the strains that relax, or for
    all if the cell is fixed. NaN without a volume."""
    trajectory: list[Atoms] | None = None
    """Every structure of the relaxation, including first and last, with energy, forces and stress; None unless
    requested."""
    energy_std: float | None = None
    """Standard deviation of the energy, eV; None without an uncertainty or if the relaxation failed."""
    relative_volume_std: float | None = None
    """Standard deviation of the volume relative to the volume (`mlip.uncertainty.relaxed`); None for a fixed cell."""
    do_not_trust: bool | None = None
    """Whether half the 90 % interval of the energy per atom exceeds the threshold in the potential's file; None for an
    uncalibrated potential."""

    @property
    def failed(self) -> bool:
        """Whether a guard or an error ended the relaxation, so that there is no relaxed structure. (max_steps has a
        structure, which is not converged.)"""
        return self.reason not in ("converged", "max_steps")

    @property
    def structure(self) -> "Structure":
        """The final structure as a pymatgen Structure."""
        from pymatgen.io.ase import AseAtomsAdaptor

        return AseAtomsAdaptor.get_structure(self.atoms)

    def as_record(self) -> dict[str, Any]:
        """JSON-serializable dict; non-finite numbers are None."""
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
        """Entries about the uncertainty; usually empty."""
        return {key: value for key in CERTAINTY if (value := getattr(self, key)) is not None}


def finite_or_none(value: float) -> float | None:
    """The value, or None if it is not finite, because JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def rows_or_none(array: Float[np.ndarray, "n k"]) -> list[list[float | None]]:
    """Nested lists rounded to 1e-10; non-finite numbers are None."""
    return [[round(value, 10) if math.isfinite(value) else None for value in row] for row in array.tolist()]
