"""Moves atoms to the origin, where float32 is accurate enough: it resolves 2e-6 A up to 32 A, but 5e-4 A at 7,000 A.

Translating an atom by lattice vectors, or all atoms together, changes only coordinates. Distant atoms occur in
unwrapped molecular dynamics and in molecules placed anywhere.
"""

from dataclasses import replace

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int

from mlip.data.records import Frame
from mlip.graph.neighbors import complete_cell

FARTHEST = 32.0
"""Distance from the origin up to which atoms are not moved, A, so that ordinary crystals cost only a comparison."""


def near_origin(structure: Atoms | Frame) -> Atoms | Frame:
    """Equivalent structure with its atoms near the origin; the structure itself if they already are. Never modifies
    it."""
    positions = np.asarray(structure.positions, np.float64)
    if _are_near(positions):
        return structure
    cell, pbc = np.asarray(structure.cell, np.float64), np.asarray(structure.pbc, bool)
    near = moved_near(positions, cell, whole_cells(positions, cell, pbc))
    return (
        replace(structure, positions=near)
        if isinstance(structure, Frame)
        else Frame(structure.numbers, near, cell, pbc)
    )


def whole_cells(
    positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, " 3"]
) -> Int[np.ndarray, "n 3"]:
    """Number of lattice vectors between each atom and its image in the cell; 0 along open directions, and for all atoms
    if they are near the origin."""
    if _are_near(positions) or not pbc.any() or not np.isfinite(positions.sum()):
        return np.zeros((len(positions), 3), np.int64)
    periodic = complete_cell(np.where(pbc[:, None], cell, 0.0), pbc)
    if not abs(np.linalg.det(periodic)) > 0:  # the neighbor list reports what is wrong
        return np.zeros((len(positions), 3), np.int64)
    return np.where(pbc, np.floor(positions @ np.linalg.inv(periodic)), 0).astype(np.int64)


def moved_near(
    positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"], cells: Int[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """Positions minus these lattice vectors and, if they are still far from the origin, minus a vector common to all
    atoms."""
    if cells.any():
        positions = positions - cells @ cell
    if _are_near(positions):
        return positions
    return positions - (positions.max(0) + positions.min(0)) / 2


def _are_near(positions: Float[np.ndarray, "n 3"]) -> bool:
    return bool(np.abs(positions).max(initial=0.0) <= FARTHEST)
