"""What may be asked of relaxations, checked before anything is read or written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

from mlip.errors import MlipError
from mlip.relaxation.cell import CellChoice
from mlip.runtime import precision_scope


@dataclass(frozen=True)
class Options:
    """How structures are relaxed, and when to give one up.

    Raises:
        MlipError: a value out of range; names the option.
    """

    fmax: float = 0.05
    """Converged when every row of forces, those of the cell included, is shorter; eV/A."""
    steps: int = 500
    """At most."""
    cell: CellChoice | Sequence[CellChoice] = "auto"
    """Which strain components relax, of all structures or a list with one choice for each."""
    symmetry: bool = False
    """Keep the space group, found within 0.01 A; the structure is made exactly symmetric first."""
    pressure_gpa: float = 0.0
    """GPa: relax to the least enthalpy E + p V. Energies reported are E. ASE's `scalar_pressure` times 160.2."""
    constant_volume: bool = False
    """Relax the shape of the cell alone, at the volume that it has (a layer's area, a chain's length)."""
    min_distance: float = 0.5
    """Two atoms closer than this, A, have collapsed. The shortest distance in 7,000 DFT frames of Materials Project,
    ALEXANDRIA and other relaxation paths is 0.67 A, in a crystal rich in hydrogen; H2 has 0.74 A."""
    max_strain: float = 1.0
    """A larger component of the logarithmic strain since the start is an explosion (or an implosion): by default
    lengths may change by a factor e, volumes by e^3 = 20. The largest component in 328 DFT relaxations is 0.20
    (a volume grown by 84 %)."""
    dtype: str = "float32"

    def __post_init__(self):
        check_options(self.fmax, self.steps, self.dtype)
        if not math.isfinite(self.pressure_gpa):
            raise MlipError(f"is {self.pressure_gpa}", where="pressure_gpa", fix="GPa, positive compresses")
        if self.pressure_gpa and (self.constant_volume or self.cell is False):
            raise MlipError("has no effect at constant volume", where="pressure_gpa", fix="leave one of the two out")
        if not 0 <= self.min_distance < math.inf:
            raise MlipError(f"is {self.min_distance}", where="min_distance", fix="a distance >= 0, A")
        if not 0 < self.max_strain <= 2:  # as far as `cell.expm` is good for
            raise MlipError(f"is {self.max_strain}", where="max_strain", fix="a logarithmic strain > 0, at most 2")


def check_options(fmax: float, steps: int, dtype: str) -> None:
    """Refuse what no relaxation can be run with.

    Raises:
        MlipError: names the option.
    """
    if not 0 < fmax < math.inf:
        raise MlipError(f"is {fmax}", where="fmax", fix="a force > 0, eV/A")
    if not isinstance(steps, Integral) or steps < 0:
        raise MlipError(f"is {steps}", where="steps", fix="a whole number >= 0")
    precision_scope(dtype)
