"""Options of equations of state, elastic tensors and phonons, checked before anything is read or computed."""

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
"""Parameters of the equation of state."""


@dataclass(frozen=True, kw_only=True)
class ResponseOptions:
    """How structures are brought to a minimum, of which the response is.

    Raises:
        MlipError: a value out of range; names the option.
    """

    relax: bool = True
    """Relax positions and cell first. Without, the response is of the structures as they are."""
    fmax: float = 1e-3
    """Converged when every row of forces is shorter, at first and of ions in a cell that is held; eV/A."""
    steps: int = 1000
    """At most, in each relaxation."""
    dtype: str = "float64"
    """float64, since differences of energies and stresses are taken, of ions that are relaxed tightly. float32 takes
    half the time: with the published M3GNet and fmax = 1e-3 it changes elastic constants of five crystals by 0.006 GPa
    at most."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The options of these names.

        Raises:
            MlipError: an unknown name, with the nearest known one, or a value out of range.
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
    """How energies are taken at other volumes."""

    volumes: Sequence[float] = (0.94, 0.96, 0.98, 1.00, 1.02, 1.04, 1.06)
    """Volumes, relative to that at the start, at which the cell keeps its shape; by default those of the Delta test.
    Over a wider range the form of the equation matters as much as the crystal: with the published M3GNet 0.9 to 1.1
    gives silicon a modulus 13 % above that of its elastic tensor."""
    relax_ions: bool = True
    """Relax the positions at each volume."""
    relax_shape: bool = False
    """Relax the shape of the cell at each volume, too."""

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
    """Which strains are applied."""

    fmax: float = 1e-4
    """eV/A. At 1e-3 ions stop so early that C_44 of silicon is off by 2 %."""
    normal_strains: Sequence[float] = (-0.01, -0.005, 0.005, 0.01)
    """Values of the strains xx, yy and zz; those of the Materials Project."""
    shear_strains: Sequence[float] = (-0.01, -0.005, 0.005, 0.01)
    """Values of the tensor's components yz, xz and xy, half of the engineering strain. Those of the Materials Project,
    up to 0.06, leave the straight line: with the published M3GNet they make C_44 of copper 17 % larger."""
    relax_ions: bool = True
    """Relax the positions in each strained cell. Without, the tensor is that of clamped ions."""
    symmetry: bool = True
    """Apply one strain of those that the point group (found within 0.001 A) makes equal, and give the tensor exactly
    that symmetry."""

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
    """Which supercells, and where phonons are evaluated."""

    fmax: float = 1e-4
    supercell: Sequence[int] | None = None
    """Multiples of the three cell vectors; None: as many of each as reach `min_length`."""
    min_length: float = 12.0
    """The least length of the supercell's vectors, A."""
    method: str = "displacements"
    """displacements: forces of supercells with an atom displaced, as few as symmetry allows. hessian: exact second
    derivatives of the supercell's energy; a potential of mlip's."""
    displacement: float = 0.01
    """How far an atom is displaced, A."""
    temperatures: Sequence[float] = tuple(float(t) for t in range(0, 1001, 50))
    """K, of the thermal properties."""
    mesh: float = 100.0
    """The mesh of wave vectors has as many points along a reciprocal vector as this length, A, times the vector's."""
    imaginary_below: float = -0.1
    """A lower frequency on the mesh is an imaginary mode, THz; phonopy writes imaginary ones negative."""

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
