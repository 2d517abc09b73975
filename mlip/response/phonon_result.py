"""Phonons of one structure, computed by phonopy from its force constants."""

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
"""Number of wave vectors in each segment of a path."""


@dataclass(frozen=True)
class Thermal:
    """Thermal properties of the cell in the harmonic approximation, from real modes only."""

    temperatures: Float[np.ndarray, " t"]
    """Temperatures, K."""
    free_energy: Float[np.ndarray, " t"]
    """Helmholtz free energy, eV, with the zero-point energy but without the static energy."""
    entropy: Float[np.ndarray, " t"]
    """Entropy, J/K/mol."""
    heat_capacity: Float[np.ndarray, " t"]
    """Heat capacity at constant volume, J/K/mol."""


@dataclass(frozen=True)
class Bands:
    """Frequencies along a path between ASE's special points of the lattice."""

    labels: list[tuple[str, str]]
    """Labels of the two ends of each segment."""
    distances: list[Float[np.ndarray, " q"]]
    """Distances along the path for each segment, 1/A, on a common axis."""
    frequencies: list[Float[np.ndarray, "q m"]]
    """Frequencies, THz; imaginary ones are negative."""


@dataclass(frozen=True, eq=False)
class PhononResult:
    """Phonons of one structure."""

    atoms: Atoms
    """The structure to which the phonons belong: relaxed, or a copy of the input."""
    reason: str
    """Outcome. ok; imaginary: a mode is below `PhononOptions.imaginary_below`; not_converged: the relaxation did not
    converge; collapsed, exploded, isolated, non_finite or error: no phonons."""
    supercell: tuple[int, int, int] | None = None
    n_supercells: int = 0
    """Number of displaced supercells that were evaluated; 1 for a Hessian."""
    lowest: float = float("nan")
    """Lowest frequency on the mesh, THz; imaginary frequencies are negative."""
    highest: float = float("nan")
    """Highest frequency on the mesh, THz."""
    imaginary_share: float = float("nan")
    """Fraction of imaginary modes on the mesh."""
    sum_rule: float = float("nan")
    """Largest sum of force constants over atoms before imposing the acoustic sum rule, eV/A^2."""
    thermal: Thermal | None = None
    phonon: Any = None
    """`phonopy.Phonopy` object with the force constants, for further analysis."""
    message: str | None = None

    @property
    def failed(self) -> bool:
        """Whether there are no phonons."""
        return self.thermal is None

    def heat_capacity(self, temperature: float = 300.0) -> float:
        """Heat capacity at constant volume, J/K/mol of cells; NaN without phonons.

        Raises:
            MlipError: the temperature is not among those requested.
        """
        if self.thermal is None:
            return float("nan")
        (place,) = np.nonzero(self.thermal.temperatures == temperature)
        if not len(place):
            raise MlipError(f"{temperature} K was not computed", where="temperatures", fix="ask for it")
        return float(self.thermal.heat_capacity[place[0]])

    @cached_property
    def dos(self) -> Float[np.ndarray, "k 2"]:
        """Density of states: frequencies (THz), and states per THz and cell. Empty without phonons."""
        if self.phonon is None:
            return np.zeros((0, 2))
        self.phonon.run_total_dos()
        found = self.phonon.total_dos
        return np.stack([found.frequency_points, found.dos], axis=1)

    @cached_property
    def bands(self) -> Bands | None:
        """Bands along the path of the lattice; None without phonons, or if ASE knows no path."""
        return None if self.phonon is None else _bands(self.phonon)

    def as_row(self) -> dict[str, Any]:
        """Values for a table."""
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
        """JSON-serializable dict without force constants; non-finite numbers are None."""
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
    except Exception:  # ASE rejects left-handed cells and lattices that it cannot classify
        return None
    parts = [(first, last) for line in parse_path_string(path.path) for first, last in pairwise(line)]
    points = path.special_points
    steps = np.linspace(0, 1, _BAND_POINTS)[:, None]
    phonon.run_band_structure([points[first] + steps * (points[last] - points[first]) for first, last in parts])
    found = phonon.band_structure
    return Bands(parts, list(map(np.array, found.distances)), list(map(np.array, found.frequencies)))
