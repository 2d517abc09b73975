"""When a structure has collapsed, relative to its elements, and how that is told.

Two rules, both in covalent radii (Cordero et al., Dalton Trans. 2008, 2832), each set by what DFT has been asked to
compute. Of 10,800 frames of Materials Project, ALEXANDRIA, other relaxations, molecular dynamics and distorted or
compressed crystals, hydrides included, the closest pair has 0.319 of the sum of its radii (K-K at 1.30 A, in one of
MPtrj's frames of highest stress), the next frame's 0.41; the densest crystal (Pu, likewise) fills its cell 2.1 times
with spheres of these radii. Without the second rule an fcc metal at 0.4 of its bond length would pass.
"""

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Float, Int
from jraph import GraphsTuple

MIN_APPROACH = 0.3
"""Two atoms closer than this share of the sum of their radii have collapsed."""
MAX_FILLING = 4.0
"""A periodic cell filled more often with spheres of its atoms' radii has collapsed."""


def radii_of(numbers: np.ndarray) -> Float[np.ndarray, " n"]:
    """Covalent radii, A."""
    return covalent_radii[numbers]


def collapsed_volume(atoms: Atoms) -> float:
    """The volume below which a cell is filled too often, A^3; 0 where open directions leave it undefined."""
    return _spheres(atoms.numbers) / MAX_FILLING if atoms.pbc.all() else 0.0


def filling(numbers: Int[np.ndarray, " n"], cell: Float[np.ndarray, "3 3"]) -> float:
    """How often spheres of the atoms' radii fill a cell."""
    return _spheres(numbers) / abs(np.linalg.det(cell))


def _spheres(numbers: Int[np.ndarray, " n"]) -> float:
    """Their volume, A^3."""
    return float(4 / 3 * np.pi * (radii_of(numbers) ** 3).sum())


def closest_pair(
    numbers: Int[np.ndarray, " n"],
    positions: Float[np.ndarray, "n 3"],
    cell: Float[np.ndarray, "3 3"],
    graph: GraphsTuple,
) -> str:
    """Which two atoms are closest in their radii, and how close, in words.

    Args:
        positions, cell: where atoms are now, in the images that the neighbor list `graph` means.
    """
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    distances = np.linalg.norm(positions[senders] + graph.edges["shifts"] @ cell - positions[receivers], axis=1)
    radii = radii_of(numbers)
    shares = distances / (radii[senders] + radii[receivers])
    k = shares.argmin()
    one, other = (chemical_symbols[numbers[atom]] for atom in (receivers[k], senders[k]))
    return f"{one} and {other} are {distances[k]:.2f} A apart, {shares[k]:.2f} of the sum of their covalent radii"
