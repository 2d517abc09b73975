"""Faults that make a structure useless whatever the filters: found at the build, reported by id."""

import numpy as np
from ase.geometry import complete_cell
from scipy.spatial import cKDTree

from mlip.data.records import Frame, MalformedError

_FLATTEST = 0.1
"""A; the smallest singular value that the periodic lattice vectors of a crystal may have."""

_SAME_PLACE = 1e-4
"""Of a lattice vector: 0.001 A along 10 A."""


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
    """The first two atoms (indices) that are at one place, or one at a periodic image of the other's."""
    periods = np.where(frame.pbc[:, None], frame.cell, 0.0)
    fractions = np.linalg.solve(complete_cell(periods).T, frame.positions.T).T
    fractions = np.where(frame.pbc, fractions % 1.0 % 1.0, fractions)  # twice: -1e-20 % 1 is 1, outside the box
    pairs = cKDTree(fractions, boxsize=np.where(frame.pbc, 1.0, 0.0)).query_pairs(_SAME_PLACE)
    return min(pairs, default=None)
