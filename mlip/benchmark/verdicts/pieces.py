"""Is a crystal, layer or chain connected by bonds? Bond lengths are judged by covalent radii
(`ase.data.covalent_radii`)."""

import itertools

import numpy as np
from ase import Atoms
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mlip.graph.neighbors import neighbor_list
from mlip.relaxation.guards import radii_of


def n_pieces(atoms: Atoms, supercell: tuple[int, int, int], bond: float) -> int:
    """Number of connected components of a periodic supercell, joined by bonds.

    Args:
        supercell: multiples of the cell vectors. The supercell itself is periodic: two atoms are bonded if any of their
            images are.
        bond: two atoms are bonded when they are closer than this times the sum of their covalent radii.

    Raises:
        MlipError: the cell is too dense for a neighbor list.
    """
    radii = radii_of(atoms.numbers)
    positions, cell = atoms.positions, atoms.cell.array
    receivers, senders, shifts = neighbor_list(positions, cell, atoms.pbc, 2 * bond * radii.max())
    lengths = np.linalg.norm(positions[senders] + shifts @ cell - positions[receivers], axis=1)
    bonded = lengths < bond * (radii[receivers] + radii[senders])
    receivers, senders, shifts = receivers[bonded], senders[bonded], shifts[bonded]
    images = np.array(list(itertools.product(*map(range, supercell))))
    neighbors = (images[:, None] + shifts) % supercell
    place = np.ravel_multi_index(tuple(np.moveaxis(neighbors, -1, 0)), supercell)
    rows = np.arange(len(images))[:, None] * len(atoms) + receivers
    columns = place * len(atoms) + senders
    n = len(images) * len(atoms)
    bonds = coo_array((np.ones(rows.size, np.int8), (rows.ravel(), columns.ravel())), shape=(n, n))
    return int(connected_components(bonds, directed=False, return_labels=False))
