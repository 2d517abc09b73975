"""Faults that make a structure useless whatever the filters: found at the build, reported by id."""

import numpy as np
from ase.geometry import complete_cell
from scipy.spatial import cKDTree

from mlip.data.records import Frame, MalformedError

_FLATTEST = 0.1
"""A; the smallest singular value that the periodic lattice vectors of a crystal may have."""

COINCIDENT = 0.01
"""Two atoms closer than this, A, are one atom written twice: the shortest bond of nature has 0.74 A."""


def check_structure(frame: Frame) -> None:
    """Refuse a structure that no neighbour list can be made of.

    Raises:
        MalformedError: periodic lattice vectors that span no volume (area, length), or two atoms at one place.
    """
    where = f"run {frame.calculation} step {frame.ionic_step}"
    if frame.pbc.any() and np.linalg.svd(frame.cell[frame.pbc], compute_uv=False).min() < _FLATTEST:
        raise MalformedError("bad cell", f"{where}: the periodic lattice vectors are linearly dependent")
    if pair := coincident_atoms(frame):
        raise MalformedError("atoms at the same place", f"{where}: atoms {pair[0]} and {pair[1]}")


def coincident_atoms(frame: Frame) -> tuple[int, int] | None:
    """The first two atoms (indices) closer than COINCIDENT, one of them perhaps as a periodic image.

    Candidates are found in fractional coordinates, where the periodic box is a cube and a length of COINCIDENT
    is at most COINCIDENT / (smallest singular value of the cell); distances are then Cartesian.
    """
    periods = np.where(frame.pbc[:, None], frame.cell, 0.0)
    cell = complete_cell(periods)
    fractions = np.linalg.solve(cell.T, frame.positions.T).T
    fractions = np.where(frame.pbc, fractions % 1.0 % 1.0, fractions)  # twice: -1e-20 % 1 is 1, outside the box
    reach = 1.001 * COINCIDENT / np.linalg.svd(cell, compute_uv=False).min()  # 1.001: above rounding
    tree = cKDTree(fractions, boxsize=np.where(frame.pbc, 1.0, 0.0))
    pairs = tree.query_pairs(reach, output_type="ndarray")
    apart = fractions[pairs[:, 1]] - fractions[pairs[:, 0]]
    apart -= np.where(frame.pbc, np.round(apart), 0.0)
    coincide = np.linalg.norm(apart @ cell, axis=1) < COINCIDENT
    return min(map(tuple, pairs[coincide].tolist()), default=None)
