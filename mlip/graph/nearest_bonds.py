"""Bonds to the nearest neighbors of each atom, for thousands of structures at once.

The rule is ALIGNN's (K. Choudhary and B. DeCost, npj Comput. Mater. 7, 185, 2021): each atom proposes bonds to its k
nearest neighbors and to all that are as close as the k-th; every proposed bond exists in both directions. Equivalently,
a bond of length d exists if d is at most the larger of the k-th distances of its two atoms, so that proposals need not
be merged. Bonds between an atom and its own images occur twice, as in the original.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mlip.data.quality import COINCIDENT
from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.graph.near import near_origin
from mlip.graph.neighbors import Neighbors, complete_cell, neighbor_list
from mlip.graph.small_crystals import ROUNDING, Wrapped, alike, are_sound, images_within, squared_distances
from mlip.graph.stacked_structures import Structures

_ENOUGH = 1.7
"""Mean number of neighbors in the first search radius, relative to the number requested."""
_WIDER = 1.35
_TOO_NEAR = 0.15
"""Shortest bond length, A; the original's list has no closer neighbors."""
_FARTHEST = 100.0
"""Largest search radius, A. A one-atom cell has 12 neighbors within it unless it is nearly all vacuum."""


@dataclass(frozen=True)
class BondRule:
    """Rule that decides which pairs of atoms are bonds."""

    n_neighbors: int | None = 12
    """Number of nearest neighbors to which each atom proposes bonds; None makes every pair within `cutoff` one bond."""
    cutoff: float = 8.0
    """Cutoff radius without `n_neighbors`, A. It grows by `CUTOFF_STEP` until the last atom of a structure has a
    bond."""
    tolerance: float = 1e-6
    """Excess over the distance of the k-th neighbor up to which neighbors count as equally close, A."""


CUTOFF_STEP = 3.0


class Bonds(NamedTuple):
    """Bonds in both directions, of one or several structures, grouped by receiver."""

    receivers: Int[np.ndarray, " e"]
    """Receiving atom of each bond, ascending."""
    senders: Int[np.ndarray, " e"]
    vectors: Float[np.ndarray, "e 3"]
    """Vector from receiver to sender, A."""
    reverse: Int[np.ndarray, " e"]
    """Row of the same bond in the opposite direction."""


def nearest_bonds(structures: Structures, rule: BondRule) -> list[Bonds | MlipError]:
    """Bonds of each structure in an order that depends only on the structure, or an error that says why there are none.

    A non-periodic structure with too few atoms has all possible bonds; a single atom has none.
    """
    found: list[Bonds | MlipError | None] = [None] * len(structures.sizes)
    places = np.flatnonzero(are_sound(structures))
    if len(places):
        crystals = Wrapped.of(structures, places)
        radii = _first_radii(crystals, rule)
        left = np.arange(len(places))
        while len(left):
            some = _chosen(crystals, left)
            too_narrow = []
            for members, reach in alike(some, radii[left]):
                bonds = _search(some, members, reach, radii[left[members]], rule)
                for member, one in zip(members, bonds, strict=True):
                    if one is None:
                        too_narrow.append(left[member])
                    else:
                        found[places[left[member]]] = one
            left = np.array(too_narrow, np.int64)
            radii[left] = _wider(radii[left], rule)
            left = left[radii[left] <= _FARTHEST]
    frames = None
    for k, one in enumerate(found):
        if one is None:
            frames = frames or structures.frames()
            found[k] = _by_itself(frames[k], rule)
    return found


def _first_radii(crystals: Wrapped, rule: BondRule) -> Float[np.ndarray, " k"]:
    """Radii of spheres with somewhat more neighbors than requested if the atoms were evenly distributed, A."""
    if rule.n_neighbors is None:
        return np.full(len(crystals.sizes), rule.cutoff)
    volumes = np.abs(np.linalg.det(crystals.cells)) / crystals.sizes
    return np.cbrt(_ENOUGH * rule.n_neighbors * volumes * 3 / (4 * np.pi))


def _wider(radii, rule: BondRule):
    return radii + CUTOFF_STEP if rule.n_neighbors is None else radii * _WIDER


def _chosen(crystals: Wrapped, chosen: Int[np.ndarray, " c"]) -> Wrapped:
    """Selected crystals; the arrays of atoms are kept whole."""
    of_crystals = {name: getattr(crystals, name)[chosen] for name in ("sizes", "first", "cells", "heights", "extents")}
    return crystals._replace(**of_crystals)


def _search(
    crystals: Wrapped,
    members: Int[np.ndarray, " g"],
    reach: tuple[int, int, int],
    radii: Float[np.ndarray, " g"],
    rule: BondRule,
) -> list[Bonds | MlipError | None]:
    """Bonds of crystals with equal numbers of atoms and images; None if some bonds may exceed the search radius."""
    n_crystals, n = len(members), int(crystals.sizes[members[0]])
    x = crystals.positions[crystals.first[members][:, None] + np.arange(n)]
    shifts, translations = images_within(reach, crystals.cells[members])
    n_shifts = len(shifts)
    squares = squared_distances(x, translations)
    if squares.shape[-1] <= (rule.n_neighbors or 0):
        return [None] * n_crystals
    coincide = squares.min((1, 2)) < COINCIDENT**2 + ROUNDING
    farthest = _farthest(np.where(squares < _TOO_NEAR**2, np.inf, squares), radii, rule)
    reached = farthest.max(1) + rule.tolerance <= radii if rule.n_neighbors else np.ones(n_crystals, bool)

    limits = np.maximum(farthest[:, :, None], farthest[:, None, :]) + rule.tolerance
    bounds = np.where(reached[:, None, None], (limits + 1e-7) ** 2, -1.0)
    near = np.flatnonzero(squares.reshape(n_crystals, n, n, n_shifts) <= bounds[..., None])
    center, j, t = np.unravel_index(near, (n_crystals * n, n, n_shifts))
    crystal, i = np.divmod(center, n)
    flat = x.reshape(-1, 3)
    vectors = (flat[crystal * n + j] - flat[center]) + translations[crystal, t]
    lengths = np.sqrt(np.einsum("ej,ej->e", vectors, vectors))
    is_bond = (lengths <= limits[crystal, i, j]) & (lengths > _TOO_NEAR)
    rows = np.flatnonzero(is_bond)
    near, center, crystal, i, j, t, vectors = (array[rows] for array in (near, center, crystal, i, j, t, vectors))
    rank = np.full(squares.size, -1, np.int32)
    rank[near] = np.arange(len(near), dtype=np.int32)
    reverse = rank[((crystal * n + j) * n + i) * n_shifts + (n_shifts - 1 - t)].astype(np.int64)

    ends = np.searchsorted(crystal, np.arange(n_crystals + 1)).tolist()
    found: list[Bonds | MlipError | None] = []
    for place in range(n_crystals):
        rows = slice(ends[place], ends[place + 1])
        if coincide[place]:
            found.append(_coincident(*np.unravel_index(squares[place].argmin(), (n, n, n_shifts))[:2]))
        elif not reached[place] or (rule.n_neighbors is None and not (i[rows] == n - 1).any()):
            found.append(None)
        else:
            found.append(_doubled(Bonds(i[rows], j[rows], vectors[rows], reverse[rows] - ends[place]), rule))
    return found


def _farthest(squares: Float[np.ndarray, "g n m"], radii, rule: BondRule) -> Float[np.ndarray, "g n"]:
    """Length of the longest bond that each atom proposes, A."""
    if rule.n_neighbors is None:
        return np.repeat(radii[:, None] - rule.tolerance, squares.shape[1], axis=1)
    return np.sqrt(np.partition(squares, rule.n_neighbors - 1, axis=-1)[..., rule.n_neighbors - 1])


def _coincident(one: int, other: int) -> MlipError:
    return MlipError(f"atoms {one} and {other} coincide, periodic images counted", fix="remove the duplicate atom")


def _doubled(bonds: Bonds, rule: BondRule) -> Bonds:
    """The bonds, with those between an atom and its own image duplicated under the nearest-neighbor rule."""
    is_own = bonds.receivers == bonds.senders
    if rule.n_neighbors is None or not is_own.any():
        return bonds
    copies = 1 + is_own
    first = np.cumsum(copies) - copies
    rows = np.repeat(np.arange(len(copies)), copies)
    copy = np.arange(len(rows)) - first[rows]
    return Bonds(bonds.receivers[rows], bonds.senders[rows], bonds.vectors[rows], first[bonds.reverse[rows]] + copy)


def _by_itself(frame: Frame, rule: BondRule) -> Bonds | MlipError:
    """Bonds of a single structure of any size and periodicity."""
    frame = near_origin(frame)
    positions, cell, pbc = np.asarray(frame.positions, float), np.asarray(frame.cell, float), np.asarray(frame.pbc)
    try:
        return _doubled(_of_any(positions, cell, np.asarray(pbc, bool), rule), rule)
    except MlipError as error:
        return error


def _of_any(positions, cell, pbc, rule: BondRule) -> Bonds:
    n = len(positions)
    wanted = rule.n_neighbors
    if wanted is not None and not pbc.any():
        wanted = min(wanted, n - 1)
    radius = rule.cutoff if wanted is None else 3.0
    farthest_possible = np.sqrt((np.ptp(positions, axis=0) ** 2).sum()) + 1.0 if not pbc.any() else math.inf
    while True:
        found = neighbor_list(positions, cell, pbc, radius + 2 * rule.tolerance + 1e-9)
        vectors = positions[found.senders] - positions[found.receivers] + found.shifts @ np.where(pbc[:, None], cell, 0)
        lengths = np.sqrt(np.einsum("ej,ej->e", vectors, vectors))
        if len(lengths) and lengths.min() < COINCIDENT:
            closest = int(lengths.argmin())
            raise _coincident(found.receivers[closest], found.senders[closest])
        limits = _limits(found, lengths, n, wanted, radius, rule)
        if limits is not None or radius > farthest_possible:
            break
        if radius > max(_FARTHEST, 2 * np.abs(complete_cell(cell, pbc)).max()):
            raise MlipError(f"an atom has fewer than {wanted} neighbors within {radius:.0f} A")
        radius = radius + CUTOFF_STEP if wanted is None else radius * _WIDER
    if limits is None:
        limits = np.full(n, np.inf)
    is_bond = lengths <= np.maximum(limits[found.receivers], limits[found.senders]) + rule.tolerance
    is_bond &= lengths > _TOO_NEAR
    kept = Neighbors(*(array[is_bond] for array in found))
    return Bonds(kept.receivers.astype(np.int64), kept.senders.astype(np.int64), vectors[is_bond], _reverse(kept))


def _limits(found: Neighbors, lengths, n: int, wanted: int | None, radius: float, rule: BondRule):
    """Length of the longest bond that each atom proposes, A; None if it exceeds the search radius."""
    if wanted is None:
        return np.full(n, radius - rule.tolerance) if (found.receivers == n - 1).any() or n == 0 else None
    if wanted == 0:
        return np.zeros(n)
    usable = lengths > _TOO_NEAR
    receivers, lengths = found.receivers[usable], lengths[usable]
    counts = np.bincount(receivers, minlength=n)
    if counts.min() < wanted:
        return None
    ordered = lengths[np.lexsort((lengths, receivers))]
    limits = ordered[np.cumsum(counts) - counts + wanted - 1]
    return limits if limits.max() + rule.tolerance <= radius else None


def _reverse(bonds: Neighbors) -> Int[np.ndarray, " e"]:
    """Row of each bond's reverse, for bonds sorted by receiver, sender and shift."""
    back = np.lexsort((*(-bonds.shifts[:, ::-1].T), bonds.receivers, bonds.senders))
    reverse = np.empty(len(back), np.int64)
    reverse[back] = np.arange(len(back))
    return reverse
