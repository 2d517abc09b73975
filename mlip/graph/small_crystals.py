"""Neighbor lists of thousands of small crystals at once.

For a crystal of ten atoms, a search tree does not pay off, and calling it costs more than the search. All pairs of
atoms and images near the cell are therefore tested, in one array for all crystals of equal shape: a third of the time.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mlip.data.quality import COINCIDENT
from mlip.data.ragged import rows_of
from mlip.graph.neighbors import FAR, Neighbors
from mlip.graph.stacked_structures import Structures

MOST_PAIRS = 1 << 17
"""Largest number of pairs of atoms and images tested for one crystal; beyond it, vesin's boxes are faster."""

AT_ONCE = 1 << 17
"""Number of pairs tested in one array, which thus stays in the cache."""

ROUNDING = 1e-9
"""Generous bound on the rounding error of squared distances (A^2) from a matrix product; pairs near the cutoff are
recomputed."""


def small_crystal_neighbors(structures: Structures, cutoff: float) -> list[Neighbors | None]:
    """Result of `neighbor_list` for each structure; None for structures that are not small, valid crystals, including
    those with coincident atoms.

    Pairs whose distance equals the cutoff to rounding may be in only one of the two lists; an edge and its reverse are
    always either both present or both absent.
    """
    found: list[Neighbors | None] = [None] * len(structures.sizes)
    places = np.flatnonzero(are_sound(structures))
    if not len(places):
        return found
    crystals = Wrapped.of(structures, places)
    for members, reach in alike(crystals, np.full(len(places), cutoff)):
        for place, neighbors in zip(members, _search(crystals, members, reach, cutoff), strict=True):
            found[places[place]] = neighbors
    return found


def are_sound(structures: Structures) -> Bool[np.ndarray, " k"]:
    """Whether each structure is periodic in all directions, with a nonzero volume and finite positions not far from the
    origin."""
    sizes, _, positions, cells, pbc, _ = structures
    lengths = np.sqrt((cells**2).sum(-1))
    volumes = np.abs((np.cross(cells[:, 0], cells[:, 1]) * cells[:, 2]).sum(-1))
    are_sound = pbc.all(1) & (sizes > 0) & (volumes > 1e-9 * lengths.prod(1)) & (volumes < np.inf)
    is_near = np.abs(positions).max(1, initial=0) <= FAR  # False for NaN
    are_sound[np.repeat(np.arange(len(sizes)), sizes)[~is_near]] = False
    return are_sound


class Wrapped(NamedTuple):
    """Crystals with all atoms wrapped into the cell."""

    sizes: Int[np.ndarray, " k"]
    first: Int[np.ndarray, " k"]
    positions: Float[np.ndarray, "a 3"]
    origins: Int[np.ndarray, "a 3"]
    """Lattice vectors subtracted from each atom by wrapping."""
    cells: Float[np.ndarray, "k 3 3"]
    heights: Float[np.ndarray, "k 3"]
    """Distances between opposite faces of the cells, A."""
    extents: Float[np.ndarray, "k 3"]
    """Extents of the atoms, in fractional coordinates."""

    @classmethod
    def of(cls, structures: Structures, places: Int[np.ndarray, " k"]) -> "Wrapped":
        sizes, cells = structures.sizes[places], structures.cells[places]
        positions = structures.positions[rows_of(places, structures.sizes)]
        inverse = np.linalg.inv(cells)
        fractional = np.einsum("ai,aij->aj", positions, np.repeat(inverse, sizes, axis=0))
        origins = np.floor(fractional)
        if origins.any():
            positions = positions - np.einsum("ai,aij->aj", origins, np.repeat(cells, sizes, axis=0))
        first = np.cumsum(sizes) - sizes
        inside = fractional - origins
        extents = np.maximum.reduceat(inside, first) - np.minimum.reduceat(inside, first)
        heights = 1 / np.sqrt((inverse**2).sum(1))
        return cls(sizes, first, positions, origins.astype(np.int32), cells, heights, extents)


def alike(
    crystals: Wrapped, cutoffs: Float[np.ndarray, " k"]
) -> Iterator[tuple[Int[np.ndarray, " g"], tuple[int, int, int]]]:
    """Groups of small crystals with equal numbers of atoms and images, of a size to search at once.

    Args:
        cutoffs: cutoff of each crystal, A.
    """
    reaches = np.floor(cutoffs[:, None] / crystals.heights + crystals.extents + ROUNDING)
    n_pairs = crystals.sizes**2 * (2 * reaches + 1).prod(1)
    small = np.flatnonzero(n_pairs <= MOST_PAIRS)
    keys = np.column_stack([crystals.sizes, reaches]).astype(np.int64)[small]
    order = np.lexsort(keys.T)
    is_first = (np.diff(keys[order], axis=0, prepend=-1) != 0).any(1)
    for group in np.split(small[order], np.flatnonzero(is_first)[1:]) if len(small) else ():
        at_once = max(1, int(AT_ONCE // n_pairs[group[0]]))
        for start in range(0, len(group), at_once):
            yield group[start : start + at_once], tuple(reaches[group[0]].astype(int).tolist())


def _search(
    crystals: Wrapped, members: Int[np.ndarray, " g"], reach: tuple[int, int, int], cutoff: float
) -> Iterator[Neighbors | None]:
    """Neighbors of crystals of equal shape, by testing all pairs of atoms i and images (j, t) in the order of edges."""
    n_crystals, n_atoms = len(members), int(crystals.sizes[members[0]])
    atoms = crystals.first[members][:, None] + np.arange(n_atoms)
    x, cells = crystals.positions[atoms], crystals.cells[members]
    shifts, translations = images_within(reach, cells)
    n_shifts = len(shifts)
    squares = squared_distances(x, translations)
    near = np.flatnonzero(squares < cutoff**2 + ROUNDING)
    squares = squares.ravel()[near]
    center, image = np.divmod(near, n_atoms * n_shifts)  # centers and neighbors are indexed over all crystals
    j, t = np.divmod(image, n_shifts)
    crystal, i = np.divmod(center, n_atoms)
    neighbor = center - i + j

    has_duplicates = np.zeros(n_crystals, bool)
    has_duplicates[crystal[squares < COINCIDENT**2 + ROUNDING]] = True
    doubtful = np.flatnonzero(squares > cutoff**2 - ROUNDING)
    if len(doubtful):
        of, to = center[doubtful], neighbor[doubtful]
        vectors = (x.reshape(-1, 3)[to] - x.reshape(-1, 3)[of]) + translations[crystal[doubtful], t[doubtful]]
        is_edge = np.ones(len(near), bool)
        is_edge[doubtful] = np.einsum("ej,ej->e", vectors, vectors) < cutoff**2
        center, neighbor, crystal, i, j, t = (array[is_edge] for array in (center, neighbor, crystal, i, j, t))
    shift = np.take(shifts, t, axis=0)
    origins = crystals.origins[atoms.ravel()]
    if origins.any():
        shift += origins[center] - origins[neighbor]
    i, j = i.astype(np.int32), j.astype(np.int32)
    ends = np.searchsorted(crystal, np.arange(n_crystals + 1)).tolist()
    for place, (start, stop) in enumerate(pairwise(ends)):
        yield None if has_duplicates[place] else Neighbors(i[start:stop], j[start:stop], shift[start:stop])


def images_within(
    reach: tuple[int, int, int], cells: Float[np.ndarray, "g 3 3"]
) -> tuple[Int[np.ndarray, "t 3"], Float[np.ndarray, "g t 3"]]:
    """Shifts by up to `reach` cells, and their translations in each crystal, A. The t-th shift and the t-th from the
    end are opposite."""
    shifts = np.stack(np.meshgrid(*(np.arange(-r, r + 1, dtype=np.int32) for r in reach), indexing="ij"), -1)
    shifts = shifts.reshape(-1, 3)
    # Summed term by term, so that the translation by -t is exactly the negative of that by t, which matrix products do
    # not guarantee.
    a, b, c = (shifts[None, :, k, None] * cells[:, None, k] for k in range(3))
    return shifts, a + b + c


def squared_distances(
    x: Float[np.ndarray, "g n 3"], translations: Float[np.ndarray, "g t 3"]
) -> Float[np.ndarray, "g n nt"]:
    """x_i|^2 - 2 x_i y_jt + |y_jt|^2 with y_jt = x_j + t, A^2, as one matrix product; infinite between an atom and
    itself."""
    n_crystals, n_atoms, _ = x.shape
    images = np.empty((n_crystals, 5, n_atoms, translations.shape[1]))
    np.add(x.transpose(0, 2, 1)[..., None], translations.transpose(0, 2, 1)[:, :, None], out=images[:, :3])
    np.einsum("gkjt,gkjt->gjt", images[:, :3], images[:, :3], out=images[:, 3])
    images[:, :3] *= -2
    images[:, 4] = 1
    atoms = np.empty((n_crystals, n_atoms, 5))
    atoms[..., :3] = x
    atoms[..., 3] = 1
    atoms[..., 4] = (x**2).sum(-1)
    squares = atoms @ images.reshape(n_crystals, 5, math.prod(images.shape[2:]))
    itself, n_shifts = np.arange(n_atoms), translations.shape[1]
    squares[:, itself, itself * n_shifts + n_shifts // 2] = np.inf
    return squares
