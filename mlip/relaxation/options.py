"""Options of relaxations, checked before anything is read or written."""

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
    """How structures are relaxed, and when to give one up.

    Raises:
        MlipError: a value out of range; names the option.
    """

    fmax: float = 0.05
    """A structure has converged when the force on every atom, and on the cell, is below this, eV/A."""
    steps: int = 500
    """The most steps that a structure takes."""
    smax_gpa: float | None = None
    """Where it is given, the residual stress must be below this, too, GPa: every component whose strain relaxes. ASE
    has no such limit, and lets small cells end under stress."""
    cell: CellChoice | Sequence[CellChoice] = "auto"
    """Which strain components relax, of all structures or a list with one choice for each."""
    symmetry: bool = False
    """Keep the space group, found within 0.01 A; the structure is made exactly symmetric first."""
    pressure_gpa: float = 0.0
    """Relax at this pressure, GPa, to the least enthalpy E + p V; positive compresses. Energies that are told are E. It
    is ASE's `scalar_pressure` times 160.2."""
    stress_factor: float = 1.0
    """The cell feels the stress times this. 1 is physics; another factor repeats relaxations that were run with a
    wrong unit of stress. Stresses reported are without it."""
    constant_volume: bool = False
    """Relax the shape of the cell alone, at the volume that it has (a layer's area, a chain's length)."""
    min_distance: float | None = None
    """Two atoms closer than this have collapsed, A. By default the covalent radii of the elements decide, by the rules
    of `mlip.relaxation.guards`."""
    max_strain: float = 1.0
    """A larger component of the logarithmic strain since the start is an explosion (or an implosion): by default
    lengths may change by a factor e, volumes by e^3 = 20. The largest component in 328 DFT relaxations is 0.20
    (a volume grown by 84 %)."""
    dtype: str = "float32"
    trajectory: bool = False
    """Keep every step in `RelaxResult.trajectory`. It takes longer."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Options":
        """The options of these names.

        Raises:
            MlipError: an unknown name, with the nearest known one, or a value out of range.
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
