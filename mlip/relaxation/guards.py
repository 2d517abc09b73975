"""Criteria for a collapsed structure, relative to its elements, and their description.

Both criteria use covalent radii (Cordero et al., Dalton Trans. 2008, 2832) and are set by structures for which DFT
calculations exist. In 10,800 frames of Materials Project, ALEXANDRIA, other relaxations, molecular dynamics and
distorted or compressed crystals, including hydrides, the closest pair is at 0.319 of the sum of its radii (K-K at 1.30
A, in one of MPtrj's frames of highest stress), and that of the next frame at 0.41; in the densest crystal (Pu,
likewise) spheres with these radii fill the cell 2.1 times. Without the second criterion an fcc metal at 0.4 of its bond
length would pass.
"""

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Float, Int
from jraph import GraphsTuple

MIN_APPROACH = 0.3
"""Distance relative to the sum of the covalent radii below which two atoms have collapsed."""
MAX_FILLING = 4.0
"""Ratio of the total volume of the atoms' spheres to that of a periodic cell above which it has collapsed."""


def radii_of(numbers: np.ndarray) -> Float[np.ndarray, " n"]:
    """Covalent radii by atom, A."""
    return covalent_radii[numbers]


def collapsed_volume(atoms: Atoms) -> float:
    """Volume below which a cell counts as collapsed, A^3; 0 if there are open directions, for which it is undefined."""
    return _spheres(atoms.numbers) / MAX_FILLING if atoms.pbc.all() else 0.0


def filling(numbers: Int[np.ndarray, " n"], cell: Float[np.ndarray, "3 3"]) -> float:
    """Ratio of the total volume of spheres with the atoms' radii to the volume of the cell."""
    return _spheres(numbers) / abs(np.linalg.det(cell))


def _spheres(numbers: Int[np.ndarray, " n"]) -> float:
    """Total volume of the spheres, A^3."""
    return float(4 / 3 * np.pi * (radii_of(numbers) ** 3).sum())


def closest_pair(
    numbers: Int[np.ndarray, " n"],
    positions: Float[np.ndarray, "n 3"],
    cell: Float[np.ndarray, "3 3"],
    graph: GraphsTuple,
) -> str:
    """Sentence about the closest two atoms relative to their radii.

    Args:
        positions, cell: current positions and cell, in the images to which the neighbor list `graph` refers.
    """
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    distances = np.linalg.norm(positions[senders] + graph.edges["shifts"] @ cell - positions[receivers], axis=1)
    radii = radii_of(numbers)
    shares = distances / (radii[senders] + radii[receivers])
    k = shares.argmin()
    one, other = (chemical_symbols[numbers[atom]] for atom in (receivers[k], senders[k]))
    return f"{one} and {other} are {distances[k]:.2f} A apart, {shares[k]:.2f} of the sum of their covalent radii"
