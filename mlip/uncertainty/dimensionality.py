"""Is a structure a crystal, a layer, a chain or a molecule? By its vacuum: directions across a wide gap don't count."""

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from mlip.data.records import Frame

GAP = 7.0
"""A. A wider gap between atoms along a cell vector, measured between lattice planes, is vacuum: longer than bonds of
any kind, shorter than the vacuum that layers and chains are put in."""


def dimensionality_of(atoms: Atoms | Frame) -> int:
    """3 for a crystal, 2 for a layer, 1 for a chain, 0 for a molecule: the periodic directions without vacuum."""
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
