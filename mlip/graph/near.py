"""Atoms near the origin, where float32 is fine: up to 32 A it tells 2e-6 A apart, at 7,000 A half a thousandth.

Moving an atom by whole lattice vectors, or all atoms together, changes nothing but the numbers. Far atoms come from
molecular dynamics that is not wrapped, and from molecules anywhere in space.
"""

from dataclasses import replace

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int

from mlip.data.records import Frame
from mlip.graph.neighbors import complete_cell

FARTHEST = 32.0
"""A; atoms within it stay where they are, so that crystals of ordinary size cost a comparison."""


def near_origin(structure: Atoms | Frame) -> Atoms | Frame:
    """The same structure, with images of its atoms near the origin; itself, if they are there. Never modified."""
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
    """How many lattice vectors each atom is away from its image in the cell; 0 for all that are near the origin, and
    along open directions."""
    if _are_near(positions) or not pbc.any() or not np.isfinite(positions.sum()):
        return np.zeros((len(positions), 3), np.int64)
    periodic = complete_cell(np.where(pbc[:, None], cell, 0.0), pbc)
    if not abs(np.linalg.det(periodic)) > 0:  # the neighbor list says what is wrong
        return np.zeros((len(positions), 3), np.int64)
    return np.where(pbc, np.floor(positions @ np.linalg.inv(periodic)), 0).astype(np.int64)


def moved_near(
    positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"], cells: Int[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """The positions without these lattice vectors and, if that is not near, without a vector common to all atoms."""
    if cells.any():
        positions = positions - cells @ cell
    if _are_near(positions):
        return positions
    return positions - (positions.max(0) + positions.min(0)) / 2


def _are_near(positions: Float[np.ndarray, "n 3"]) -> bool:
    return bool(np.abs(positions).max(initial=0.0) <= FARTHEST)
