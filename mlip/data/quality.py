"""Faults that make a structure useless whatever the filters: found at the build, reported by id."""

import numpy as np
from ase.geometry import complete_cell
from scipy.spatial import cKDTree

from mlip.data.records import Frame

_SAME_PLACE = 1e-4
"""Of a lattice vector: 0.001 A along 10 A."""


def coincident_atoms(frame: Frame) -> tuple[int, int] | None:
    """The first two atoms (indices) that are at one place, or one at a periodic image of the other's."""
    fractions = np.linalg.solve(complete_cell(frame.cell).T, frame.positions.T).T
    fractions = np.where(frame.pbc, fractions % 1.0 % 1.0, fractions)  # twice: -1e-20 % 1 is 1, outside the box
    tree = cKDTree(fractions, boxsize=np.where(frame.pbc, 1.0, 0.0))
    pairs = sorted(tree.query_pairs(_SAME_PLACE))
    return pairs[0] if pairs else None
