"""Options of equations of state, elastic tensors and phonons, validated before anything is read or computed."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from mlip.errors import MlipError
from mlip.relaxation.options import check_options

_LARGEST_STRAIN = 0.2
_PARAMETERS = 4
"""Number of parameters of the equation of state."""


@dataclass(frozen=True, kw_only=True)
class ResponseOptions:
    """Options for the relaxation to the minimum at which a response is computed.

    Raises:
        MlipError: a value is out of range; names the option.
    """

    relax: bool = True
    """Relax positions and cell first. Otherwise the response is that of the structures as given."""
    fmax: float = 1e-3
    """Convergence threshold for every force row, in the first relaxation and for ions in fixed cells, eV/A."""
    steps: int = 1000
    """Largest number of steps in each relaxation."""
    dtype: str = "float64"
    """Precision; float64 because differences of energies and stresses are taken and ions are tightly relaxed. float32
    takes half the time: with the published M3GNet and fmax = 1e-3 it changes elastic constants of five crystals by at
    most 0.006 GPa."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Options with the given names and values.

        Raises:
            MlipError: a name is unknown (suggests a similar one), or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                raise MlipError(
                    "is no option here",
                    where=name,
                    fix=f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}",
                )
        return cls(**options)

    def __post_init__(self):
        check_options(self.fmax, self.steps, self.dtype)


@dataclass(frozen=True, kw_only=True)
class EosOptions(ResponseOptions):
    """Options of equations of state."""

    volumes: Sequence[float] = (0.94, 0.96, 0.98, 1.00, 1.02, 1.04, 1.06)
    """Volumes relative to the start, at which the cell keeps its shape; by default those of the Delta test. Over a
    wider range the form of the equation matters as much as the crystal: with the published M3GNet, 0.9 to 1.1 gives
    silicon a bulk modulus 13 % above that of its elastic tensor."""
    relax_ions: bool = True
    """Relax the positions at each volume."""
    relax_shape: bool = False
    """Also relax the shape of the cell at each volume."""

    def __post_init__(self):
        super().__post_init__()
        values = np.asarray(self.volumes, dtype=float)
        if values.ndim != 1 or len(np.unique(values)) <= _PARAMETERS or not ((values > 0.2) & (values < 5)).all():
            raise MlipError(
                f"are {list(self.volumes)}", where="volumes", fix="five or more, relative to the start: 0.94 to 1.06"
            )
        object.__setattr__(self, "volumes", tuple(sorted(map(float, values))))


@dataclass(frozen=True, kw_only=True)
class ElasticOptions(ResponseOptions):
    """Options of elastic tensors."""

    fmax: float = 1e-4
    """Convergence threshold for forces, eV/A. With 1e-3 ions stop so early that C_44 of silicon is off by 2 %."""
    normal_strains: Sequence[float] = (-0.01, -0.005, 0.005, 0.01)
    """Values of the strains xx, yy and zz; by default those of the Materials Project."""
    shear_strains: Sequence[float] = (-0.01, -0.005, 0.005, 0.01)
    """Values of the tensor components yz, xz and xy, half the engineering strains. Those of the Materials Project, up
    to 0.06, leave the linear regime: with the published M3GNet they increase C_44 of copper by 17 %."""
    relax_ions: bool = True
    """Relax the positions in each strained cell. Otherwise the tensor is that of clamped ions."""
    symmetry: bool = True
    """Apply only one of the strains that are equivalent under the point group (tolerance 0.001 A), and give the tensor
    exactly that symmetry."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("normal_strains", "shear_strains"):
            values = np.asarray(getattr(self, name), dtype=float)
            if values.ndim != 1 or not len(values) or not (np.abs(values) <= _LARGEST_STRAIN).all():
                raise MlipError(f"are {getattr(self, name)}", where=name, fix=f"up to {_LARGEST_STRAIN}, such as ±0.01")
            if len(np.unique(np.append(values, 0.0))) <= len(values):
                raise MlipError(f"are {list(values)}", where=name, fix="each once, and not 0, which is always there")
            object.__setattr__(self, name, tuple(map(float, values)))


@dataclass(frozen=True, kw_only=True)
class PhononOptions(ResponseOptions):
    """Options of phonons: supercells, and evaluation of frequencies."""

    fmax: float = 1e-4
    supercell: Sequence[int] | None = None
    """Multiples of the three cell vectors; None chooses the smallest multiples that reach `min_length`."""
    min_length: float = 12.0
    """Minimum length of the supercell's vectors, A."""
    method: str = "displacements"
    """Source of the force constants. displacements: forces of supercells with one displaced atom, as few as symmetry
    allows. hessian: exact second derivatives of the supercell's energy; only for mlip's own potentials."""
    displacement: float = 0.01
    """Displacement of an atom, A."""
    temperatures: Sequence[float] = tuple(float(t) for t in range(0, 1001, 50))
    """Temperatures of the thermal properties, K."""
    mesh: float = 100.0
    """Density of the mesh of wave vectors: number of points along a reciprocal vector divided by its length, A."""
    imaginary_below: float = -0.1
    """Frequency below which a mode on the mesh counts as imaginary, THz; phonopy writes imaginary frequencies as
    negative."""

    def __post_init__(self):
        super().__post_init__()
        if self.supercell is not None:
            values = np.asarray(self.supercell)
            if values.shape != (3,) or values.dtype.kind not in "iu" or (values < 1).any():
                raise MlipError(f"is {self.supercell}", where="supercell", fix="three whole numbers > 0")
            object.__setattr__(self, "supercell", tuple(map(int, values)))
        if self.method not in ("displacements", "hessian"):
            raise MlipError(f"is {self.method!r}", where="method", fix="displacements or hessian")
        for name in ("min_length", "displacement", "mesh"):
            if not 0 < getattr(self, name) < math.inf:
                raise MlipError(f"is {getattr(self, name)}", where=name, fix="a length > 0, A")
        if not self.imaginary_below <= 0:
            raise MlipError(f"is {self.imaginary_below}", where="imaginary_below", fix="a frequency <= 0, THz")
        values = np.asarray(self.temperatures, dtype=float)
        if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values >= 0)).all():
            raise MlipError(f"are {self.temperatures}", where="temperatures", fix="numbers >= 0, K")
        object.__setattr__(self, "temperatures", tuple(map(float, values)))
