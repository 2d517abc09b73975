"""Dimensionality of a structure (crystal, layer, chain or molecule), found from its vacuum."""

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from mlip.data.records import Frame

GAP = 7.0
"""Gap between atoms along a cell vector, measured between lattice planes, above which it is vacuum, A: longer than any
bond, shorter than the vacuum commonly used for layers and chains."""


def dimensionality_of(atoms: Atoms | Frame) -> int:
    """Number of periodic directions without vacuum: 3 for a crystal, 2 for a layer, 1 for a chain, 0 for a molecule."""
    periodic = np.flatnonzero(atoms.pbc)
    if not len(periodic) or not len(atoms):
        return 0
    cell = complete_cell(np.asarray(atoms.cell, np.float64))
    reciprocal = np.linalg.pinv(cell)
    heights = 1 / np.maximum(np.linalg.norm(reciprocal, axis=0), 1e-12)
    fractional = (atoms.positions @ reciprocal)[:, periodic] % 1.0
    order = np.sort(fractional, axis=0)
    gaps = np.diff(order, axis=0, append=order[:1] + 1.0).max(axis=0)
    return int(np.sum(gaps * heights[periodic] < GAP))
