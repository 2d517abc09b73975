"""The phonons of one structure, as phonopy computed them from its force constants."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from ase.dft.kpoints import parse_path_string
from jaxtyping import Float

from mlip.errors import MlipError
from mlip.response.results import for_json, structure_record

_BAND_POINTS = 31
"""Wave vectors of each part of a path."""


@dataclass(frozen=True)
class Thermal:
    """Thermal properties in the harmonic approximation, of real modes alone, of the cell."""

    temperatures: Float[np.ndarray, " t"]
    """K."""
    free_energy: Float[np.ndarray, " t"]
    """eV, zero-point energy included, the static energy not."""
    entropy: Float[np.ndarray, " t"]
    """J/K/mol."""
    heat_capacity: Float[np.ndarray, " t"]
    """At constant volume, J/K/mol."""


@dataclass(frozen=True)
class Bands:
    """Frequencies along a path between special points (of ASE's, of the lattice)."""

    labels: list[tuple[str, str]]
    """Names of the ends of each part."""
    distances: list[Float[np.ndarray, " q"]]
    """1/A, of each part, on one axis."""
    frequencies: list[Float[np.ndarray, "q m"]]
    """THz; imaginary ones negative."""


@dataclass(frozen=True, eq=False)
class PhononResult:
    """The phonons of one structure."""

    atoms: Atoms
    """The structure whose phonons these are: relaxed, or a copy of the input."""
    reason: str
    """ok; imaginary: a mode is lower than `PhononOptions.imaginary_below`; not_converged: the relaxation was not;
    collapsed, exploded, isolated, non_finite or error: no phonons."""
    supercell: tuple[int, int, int] | None = None
    n_supercells: int = 0
    """Displaced supercells that were evaluated; 1 of a Hessian."""
    lowest: float = float("nan")
    """Lowest frequency on the mesh, THz; imaginary ones are negative."""
    highest: float = float("nan")
    """THz."""
    imaginary_share: float = float("nan")
    """Share of the mesh's modes that are imaginary."""
    sum_rule: float = float("nan")
    """Largest sum of force constants over atoms before the acoustic sum rule was imposed, eV/A^2."""
    thermal: Thermal | None = None
    phonon: Any = None
    """The `phonopy.Phonopy` with the force constants, for whatever else phonopy computes."""
    message: str | None = None

    @property
    def failed(self) -> bool:
        """Whether there are no phonons."""
        return self.thermal is None

    def heat_capacity(self, temperature: float = 300.0) -> float:
        """At constant volume, J/K/mol of the cell; NaN without phonons.

        Raises:
            MlipError: the temperature is not one of those that were asked for.
        """
        if self.thermal is None:
            return float("nan")
        (place,) = np.nonzero(self.thermal.temperatures == temperature)
        if not len(place):
            raise MlipError(f"{temperature} K was not computed", where="temperatures", fix="ask for it")
        return float(self.thermal.heat_capacity[place[0]])

    @cached_property
    def dos(self) -> Float[np.ndarray, "k 2"]:
        """Density of states: frequencies, THz, and states per THz and cell. Empty without phonons."""
        if self.phonon is None:
            return np.zeros((0, 2))
        self.phonon.run_total_dos()
        found = self.phonon.total_dos
        return np.stack([found.frequency_points, found.dos], axis=1)

    @cached_property
    def bands(self) -> Bands | None:
        """Bands along the lattice's path; None without phonons, and where ASE knows no path."""
        return None if self.phonon is None else _bands(self.phonon)

    def as_row(self) -> dict[str, Any]:
        """Figures of the table."""
        has_300 = self.thermal is not None and 300.0 in self.thermal.temperatures
        return {
            "reason": self.reason,
            "lowest": self.lowest,
            "highest": self.highest,
            "imaginary_share": self.imaginary_share,
            "heat_capacity_300K": self.heat_capacity(300.0) if has_300 else float("nan"),
            "message": self.message,
        }

    def as_record(self) -> dict[str, Any]:
        """A JSON-able dict; what is not a number is None. Force constants are left out."""
        thermal, bands = self.thermal, self.bands
        known = {
            **self.as_row(),
            "supercell": self.supercell,
            "n_supercells": self.n_supercells,
            "sum_rule": self.sum_rule,
            "thermal": None if thermal is None else vars(thermal),
            "dos": np.round(self.dos, 6),
            "bands": bands
            and {
                "labels": bands.labels,
                "distances": [np.round(part, 6) for part in bands.distances],
                "frequencies": [np.round(part, 5) for part in bands.frequencies],
            },
        }
        return for_json(known) | structure_record(self.atoms)


def _bands(phonon: Any) -> Bands | None:
    try:
        path = Atoms(cell=phonon.primitive.cell, pbc=True).cell.bandpath(npoints=0)
    except Exception:  # ASE's lattices: it refuses left-handed cells, and what it cannot classify
        return None
    parts = [(first, last) for line in parse_path_string(path.path) for first, last in pairwise(line)]
    points = path.special_points
    steps = np.linspace(0, 1, _BAND_POINTS)[:, None]
    phonon.run_band_structure([points[first] + steps * (points[last] - points[first]) for first, last in parts])
    found = phonon.band_structure
    return Bands(parts, list(map(np.array, found.distances)), list(map(np.array, found.frequencies)))
