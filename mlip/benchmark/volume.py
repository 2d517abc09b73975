"""The effective volume of a crystal, a layer or a chain: the cell's without its vacuum, an atom being 3 A thick.

As in the volume table of "Improving machine-learning models in materials science through large datasets": a layer
has its area times (extent + 3 A); a chain its length times (extent + 3 A) along each of the two other directions.
Extents are taken across the boundary: the largest gap between atoms along an axis is the vacuum.
"""

import numpy as np
from jaxtyping import Bool, Float

from mlip.errors import MlipError

ATOM_THICKNESS = 3.0
"""A."""

_ALEXANDRIA = {
    1: np.array([True, False, False]),
    2: np.array([True, True, False]),
    3: np.array([True, True, True]),
}
"""Where all three directions are periodic: chains run along a, the vacuum of layers is along c."""


def crystal_directions(
    pbc: Bool[np.ndarray, " 3"], dimensionality: int, where: str | None = None
) -> Bool[np.ndarray, " 3"]:
    """Which cell vectors a crystal of this dimensionality repeats along; the others cross the vacuum.

    Raises:
        MlipError: the periodicity does not fit the dimensionality.
    """
    pbc = np.asarray(pbc, dtype=bool)
    if pbc.all() and dimensionality in _ALEXANDRIA:
        return _ALEXANDRIA[dimensionality]
    if pbc.sum() == dimensionality > 0:
        return pbc
    raise MlipError(f"dimensionality {dimensionality} with pbc {pbc.tolist()}", where=where)


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
        pbc: where images are, vacuum between them or not.
        directions: those of `crystal_directions`.
    """
    repeated = np.asarray(cell, dtype=np.float64)[directions]
    if len(repeated) == 3:
        return float(abs(np.linalg.det(repeated)))
    unwrapped = across_boundary(np.asarray(positions, dtype=np.float64), cell, pbc & ~directions)
    # Orthonormal axes: first those spanned by the crystal, then across the vacuum, the next cell vector first.
    across = [cell[k] for k in range(3) if not directions[k] and np.any(cell[k])]
    axes = _orthonormal([*repeated, *across, *np.eye(3)])
    heights = unwrapped @ axes[len(repeated) :].T
    extents = np.ptp(heights, axis=0) + ATOM_THICKNESS
    measure = np.sqrt(np.linalg.det(repeated @ repeated.T))
    return float(measure * np.prod(extents))


def across_boundary(positions, cell, wrapped: Bool[np.ndarray, " 3"]) -> Float[np.ndarray, "n 3"]:
    """Positions, (n, 3) A, moved by whole periods so that the largest gap along each `wrapped` cell vector is
    outside."""
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


def _completed(cell) -> Float[np.ndarray, "3 3"]:
    """The cell with unit normals for vectors that are zero."""
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
