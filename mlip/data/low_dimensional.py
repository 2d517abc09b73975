"""Crystals, layers and chains: the cell vectors along which a structure repeats, and the place of its vacuum.

The vacuum along a cell vector is the largest gap between atoms, including gaps across the boundary of the cell.
"""

import numpy as np
from jaxtyping import Bool, Float

from mlip.errors import MlipError

_ALEXANDRIA = {
    1: np.array([True, False, False]),
    2: np.array([True, True, False]),
    3: np.array([True, True, True]),
}
"""Cell vectors that repeat, by dimensionality, if all three directions are periodic: chains run along a, and the vacuum
of layers is along c."""


def crystal_directions(
    pbc: Bool[np.ndarray, " 3"], dimensionality: int, where: str | None = None
) -> Bool[np.ndarray, " 3"]:
    """Mask of the cell vectors along which a crystal of this dimensionality repeats; the others cross the vacuum.

    Raises:
        MlipError: the periodicity does not fit the dimensionality.
    """
    pbc = np.asarray(pbc, dtype=bool)
    if pbc.all() and dimensionality in _ALEXANDRIA:
        return _ALEXANDRIA[dimensionality]
    if pbc.sum() == dimensionality > 0:
        return pbc
    raise MlipError(f"dimensionality {dimensionality} with pbc {pbc.tolist()}", where=where)


def unwrapped(
    positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"], wrapped: Bool[np.ndarray, " 3"]
) -> Float[np.ndarray, "n 3"]:
    """Positions moved by whole periods so that the largest gap along each `wrapped` cell vector lies outside the
    atoms."""
    if not wrapped.any():
        return positions
    inverse = np.linalg.inv(_completed(cell))
    fractional = positions @ inverse
    moved = positions.copy()
    for axis in np.flatnonzero(wrapped):
        inside = fractional[:, axis] % 1.0
        order = np.sort(inside)
        gaps = np.diff(order, append=order[0] + 1.0)
        first = order[(gaps.argmax() + 1) % len(order)]
        periods = first + (inside - first) % 1.0 - fractional[:, axis]
        moved += np.round(periods)[:, None] * cell[axis]
    return moved


def crystal_axes(
    cell: Float[np.ndarray, "3 3"], directions: Bool[np.ndarray, " 3"]
) -> tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, "3 3"]]:
    """Repeated cell vectors, and three orthonormal axes (rows). The first axes span these vectors; the others cross the
    vacuum, beginning with the next cell vector."""
    repeated = np.asarray(cell, dtype=np.float64)[directions]
    across = [cell[k] for k in range(3) if not directions[k] and np.any(cell[k])]
    return repeated, _orthonormal([*repeated, *across, *np.eye(3)])


def _completed(cell) -> Float[np.ndarray, "3 3"]:
    """Cell in which vectors that are zero are replaced by unit normals."""
    given = [row for row in cell if np.any(row)]
    normals = iter(_orthonormal([*given, *np.eye(3)])[len(given) :])
    return np.array([row if np.any(row) else next(normals) for row in np.asarray(cell, dtype=np.float64)])


def _orthonormal(vectors) -> Float[np.ndarray, "3 3"]:
    """Three orthonormal rows from the first independent ones of `vectors` (Gram-Schmidt)."""
    rows: list[np.ndarray] = []
    for vector in vectors:
        rest = np.array(vector, dtype=np.float64)
        for row in rows:
            rest = rest - (rest @ row) * row
        length = np.linalg.norm(rest)
        if length > 1e-8 * max(np.linalg.norm(vector), 1e-12) and len(rows) < 3:
            rows.append(rest / length)
    return np.array(rows)
