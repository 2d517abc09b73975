"""The effective volume of a crystal, a layer or a chain: the volume of the cell without vacuum, with atoms 3 A thick.

The definition is that of the volume table of "Improving machine-learning models in materials science through large
datasets": a layer has its area times (extent + 3 A); a chain its length times (extent + 3 A) along each of the two
other directions. Extents are taken across the boundary: the largest gap between atoms along an axis is the vacuum.
"""

import numpy as np
from jaxtyping import Bool, Float

from mlip.data.low_dimensional import crystal_axes, unwrapped

ATOM_THICKNESS = 3.0
"""Thickness that is added to an extent for the size of an atom, A."""


def effective_volume(
    positions: Float[np.ndarray, "n 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, " 3"],
    directions: Bool[np.ndarray, " 3"],
) -> float:
    """Volume without vacuum, A^3.

    Args:
        positions: A, wrapped or not.
        cell: rows are lattice vectors, A; rows of open directions are not used.
        pbc: directions with periodic images, also across vacuum.
        directions: as given by `mlip.data.low_dimensional.crystal_directions`.
    """
    repeated, axes = crystal_axes(cell, directions)
    if len(repeated) == 3:
        return float(abs(np.linalg.det(repeated)))
    heights = unwrapped(np.asarray(positions, dtype=np.float64), cell, pbc & ~directions) @ axes[len(repeated) :].T
    extents = np.ptp(heights, axis=0) + ATOM_THICKNESS
    measure = np.sqrt(np.linalg.det(repeated @ repeated.T))
    return float(measure * np.prod(extents))
