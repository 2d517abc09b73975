"""Options of relaxations, validated before anything is read or written."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

from mlip.errors import MlipError
from mlip.relaxation.cell import HYDROSTATIC, CellChoice
from mlip.runtime import precision_scope


@dataclass(frozen=True)
class Options:
    """How structures are relaxed, and when a relaxation stops.

    Raises:
        MlipError: a value is out of range; names the option.
    """

    fmax: float = 0.05
    """Convergence threshold for the force on every atom and on the cell, eV/A."""
    steps: int = 500
    """Largest number of steps per structure."""
    smax_gpa: float | None = None
    """Additional convergence threshold for the residual stress, GPa, for every component whose strain relaxes; None
    sets none. ASE has no such threshold, and small cells can end under stress."""
    cell: CellChoice | Sequence[CellChoice] = "auto"
    """Strain components that relax, for all structures, or a list with one choice per structure."""
    symmetry: bool = False
    """Keep the space group, found with a tolerance of 0.01 A; the structure is first made exactly symmetric."""
    pressure_gpa: float = 0.0
    """External pressure, GPa, at which the enthalpy E + p V is minimized; positive compresses. Reported energies are E.
    Equals ASE's `scalar_pressure` times 160.2."""
    stress_factor: float = 1.0
    """Factor on the stress that acts on the cell. The physical value is 1; others reproduce relaxations that were run
    with a wrong unit of stress. Reported stresses exclude it."""
    constant_volume: bool = False
    """Relax only the shape of the cell at constant volume (a layer's area, a chain's length)."""
    min_distance: float | None = None
    """Distance between two atoms below which a structure has collapsed, A. By default the covalent radii decide, by the
    criteria of `mlip.relaxation.guards`."""
    max_strain: float = 1.0
    """Component of the logarithmic strain since the start above which a structure has exploded (or imploded). By
    default lengths may change by a factor e, volumes by e^3 = 20. The largest component in 328 DFT relaxations is 0.20
    (a volume increase of 84 %)."""
    dtype: str = "float32"
    trajectory: bool = False
    """Keep every step in `RelaxResult.trajectory`; this takes longer."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Options":
        """Options with the given names and values.

        Raises:
            MlipError: a name is unknown (suggests a similar one), or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                fix = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise MlipError("is no option of a relaxation", where=name, fix=fix)
        return cls(**options)

    def __post_init__(self):
        check_options(self.fmax, self.steps, self.dtype)
        if not math.isfinite(self.pressure_gpa):
            raise MlipError(f"is {self.pressure_gpa}", where="pressure_gpa", fix="GPa, positive compresses")
        if not 0 < self.stress_factor < math.inf:
            raise MlipError(f"is {self.stress_factor}", where="stress_factor", fix="a factor > 0, usually 1")
        if self.pressure_gpa and (self.constant_volume or self.cell is False):
            raise MlipError("has no effect at constant volume", where="pressure_gpa", fix="leave one of the two out")
        if self.constant_volume and isinstance(self.cell, str) and self.cell == HYDROSTATIC:
            raise MlipError(
                "is nothing but a change of volume", where="cell='hydrostatic'", fix="constant_volume=False"
            )
        if self.smax_gpa is not None and not 0 < self.smax_gpa < math.inf:
            raise MlipError(f"is {self.smax_gpa}", where="smax_gpa", fix="a stress > 0, GPa")
        if self.min_distance is not None and not 0 <= self.min_distance < math.inf:
            raise MlipError(f"is {self.min_distance}", where="min_distance", fix="a distance >= 0, A")
        if not 0 < self.max_strain <= 2:  # validity limit of `cell.expm`
            raise MlipError(f"is {self.max_strain}", where="max_strain", fix="a logarithmic strain > 0, at most 2")


def check_options(fmax: float, steps: int, dtype: str) -> None:
    """Check options that every relaxation needs.

    Raises:
        MlipError: names the invalid option.
    """
    if not 0 < fmax < math.inf:
        raise MlipError(f"is {fmax}", where="fmax", fix="a force > 0, eV/A")
    if not isinstance(steps, Integral) or steps < 0:
        raise MlipError(f"is {steps}", where="steps", fix="a whole number >= 0")
    precision_scope(dtype)
