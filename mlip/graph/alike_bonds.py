"""Merges atoms, bonds and pairs of bonds that a message-passing network cannot distinguish into one row each.

Colors are refined until nothing splits any more: bonds of one color have ends of equal colors, equal lengths, and the
same bonds arriving at equal angles; atoms of one color are of the same element and have the same bonds arriving.
Anything that a network computes from elements, lengths and cosines by sums over incoming bonds is then equal for all
members of a color. Symmetry-equivalent members share a color, and so do those that differ only in what angles cannot
show, such as handedness.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mlip.graph.nearest_bonds import Bonds

_FACTORS = tuple(
    np.uint64(factor)
    for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)
)
_HALF = np.uint64(32)
Colors = Int[np.ndarray, "n"]
"""64-bit colors; sums of their hashes represent multisets."""


class BondGraphs(NamedTuple):
    """Graphs of several structures, concatenated. A multiplicity is the number of atoms, bonds or pairs that a row
    represents."""

    atoms: Int[np.ndarray, " n"]
    """Index of the first atom that each node represents."""
    species: Int[np.ndarray, " n"]
    node_multiplicity: Int[np.ndarray, " n"]
    senders: Int[np.ndarray, " e"]
    receivers: Int[np.ndarray, " e"]
    """Receiving node of each edge, ascending."""
    lengths: Float[np.ndarray, " e"]
    vectors: Float[np.ndarray, "e 3"]
    edge_multiplicity: Int[np.ndarray, " e"]
    pair_senders: Int[np.ndarray, " p"]
    """First bond of each pair, as an index of edges."""
    pair_receivers: Int[np.ndarray, " p"]
    """Second bond of each pair, as an index of edges, ascending."""
    cosines: Float[np.ndarray, " p"]
    pair_multiplicity: Int[np.ndarray, " p"]


class _Meetings(NamedTuple):
    """All pairs of an arriving and a leaving bond at atoms where the same number g of bonds arrive."""

    arriving: Int[np.ndarray, "a g"]
    leaving: Int[np.ndarray, "a g"]
    """The arriving bonds in the opposite direction."""
    cosines: Float[np.ndarray, "a g g"]
    """Cosine of the angle between an arriving bond (axis 1) and a leaving one (axis 2)."""
    are_same: tuple[Int[np.ndarray, " s"], ...]
    """Indices into `cosines` where the arriving and the leaving bond are the same, between an atom and its own
    image."""


def every_bond(bonds: Bonds, numbers: Int[np.ndarray, " a"]) -> BondGraphs:
    """Graphs with one row for each atom, bond and pair."""
    meetings = list(_meetings(bonds, len(numbers)))
    senders, receivers, cosines = _pairs(meetings, np.ones(len(bonds.receivers), bool))
    order = np.lexsort((senders, receivers))
    one = np.ones(len(order), np.int64)
    return BondGraphs(
        np.arange(len(numbers)),
        numbers,
        np.ones(len(numbers), np.int64),
        bonds.senders,
        bonds.receivers,
        _lengths(bonds),
        bonds.vectors,
        np.ones(len(bonds.receivers), np.int64),
        senders[order],
        receivers[order],
        cosines[order],
        one,
    )


def alike_bonds(
    bonds: Bonds, numbers: Int[np.ndarray, " a"], owner: Int[np.ndarray, " a"], tolerance: float
) -> BondGraphs:
    """Graphs with one row for each color of atoms, bonds and pairs.

    Args:
        owner: structure of each atom, ascending; atoms of different structures are never merged.
        tolerance: lengths (A) and cosines that differ by less than this are equal.
    """
    lengths = _lengths(bonds)
    meetings = list(_meetings(bonds, len(numbers)))
    of_atoms, of_bonds = _refined(bonds, numbers, owner, lengths, meetings, tolerance)
    node_of_atom, first_atom, n_atoms = _numbered(of_atoms)
    edge_of_bond, first_bond, n_bonds = _numbered(of_bonds)

    stands_for_others = np.zeros(len(of_bonds), bool)
    stands_for_others[first_bond] = True
    senders, receivers, cosines = _pairs(meetings, stands_for_others)
    senders, receivers = edge_of_bond[senders], edge_of_bond[receivers]
    rounded = np.rint(cosines / tolerance)
    order = np.lexsort((rounded, senders, receivers))
    senders, receivers, cosines, rounded = (array[order] for array in (senders, receivers, cosines, rounded))
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(receivers) != 0) | (np.diff(senders) != 0) | (np.diff(rounded) != 0)
    first_pair = np.flatnonzero(is_new)
    n_alike = np.diff(first_pair, append=len(order))
    return BondGraphs(
        first_atom,
        numbers[first_atom],
        n_atoms,
        node_of_atom[bonds.senders[first_bond]],
        node_of_atom[bonds.receivers[first_bond]],
        lengths[first_bond],
        bonds.vectors[first_bond],
        n_bonds,
        senders[first_pair],
        receivers[first_pair],
        cosines[first_pair],
        n_alike * n_bonds[receivers[first_pair]],
    )


def _lengths(bonds: Bonds) -> Float[np.ndarray, " e"]:
    return np.sqrt(np.einsum("ej,ej->e", bonds.vectors, bonds.vectors))


def _meetings(bonds: Bonds, n_atoms: int) -> Iterator[_Meetings]:
    units = bonds.vectors / _lengths(bonds)[:, None]
    degrees = np.bincount(bonds.receivers, minlength=n_atoms)
    first = np.cumsum(degrees) - degrees
    for degree in np.unique(degrees[degrees > 0]).tolist():
        arriving = first[degrees == degree][:, None] + np.arange(degree)
        leaving = bonds.reverse[arriving]
        # Vectors point from the atom to its neighbors, for arriving bonds and for the same bonds leaving.
        u = units[arriving]
        cosines = np.clip(u @ u.transpose(0, 2, 1), -1.0, 1.0)
        own = np.nonzero(bonds.senders[arriving] == bonds.receivers[arriving])
        are_same = own[0], leaving[own] - arriving[own[0], 0], own[1]
        yield _Meetings(arriving, leaving, cosines, are_same)


def _pairs(meetings: list[_Meetings], chosen: Bool[np.ndarray, " e"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First bond, second bond and cosine of all pairs whose second bond is chosen."""
    senders, receivers, cosines = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for one in meetings:
        is_pair = np.repeat(chosen[one.leaving][:, None, :], one.cosines.shape[1], axis=1)
        is_pair[one.are_same] = False
        atom, a, b = np.nonzero(is_pair)
        senders.append(one.arriving[atom, a])
        receivers.append(one.leaving[atom, b])
        cosines.append(one.cosines[atom, a, b])
    return np.concatenate(senders), np.concatenate(receivers), np.concatenate(cosines)


def _refined(bonds: Bonds, numbers, owner, lengths, meetings: list[_Meetings], tolerance) -> tuple[Colors, Colors]:
    """Stable colors of atoms and bonds."""
    angles = [_mixed(_whole(one.cosines, tolerance)) for one in meetings]
    of_atoms = _mixed(numbers.astype(np.uint64) * _FACTORS[3] + owner.astype(np.uint64) * _FACTORS[4])
    of_bonds = _mixed(_whole(lengths, tolerance))
    degrees = np.bincount(bonds.receivers, minlength=len(numbers))
    has_bonds = degrees > 0
    first = (np.cumsum(degrees) - degrees)[has_bonds]
    n_colors = 0
    while True:
        of_bonds = _mixed(
            of_bonds * _FACTORS[0] + of_atoms[bonds.senders] * _FACTORS[3] + of_atoms[bonds.receivers] * _FACTORS[4]
        )
        arrived = np.zeros(len(numbers), np.uint64)
        if len(first):
            arrived[has_bonds] = np.add.reduceat(_mixed(of_bonds), first)
        of_atoms = _mixed(of_atoms * _FACTORS[0] + arrived)
        heard = np.zeros(len(of_bonds), np.uint64)
        for one, angle in zip(meetings, angles, strict=True):
            colors = of_bonds[one.arriving]
            sums = _mixed(colors[:, :, None] + angle).sum(1, dtype=np.uint64)
            if len(one.are_same[0]):
                atom, a, b = one.are_same
                np.subtract.at(sums, (atom, b), _mixed(colors[atom, a] + angle[atom, a, b]))
            heard[one.leaving] = sums
        of_bonds = _mixed(of_bonds * _FACTORS[0] + heard)
        before, n_colors = n_colors, len(np.unique(of_atoms)) + len(np.unique(of_bonds))
        if n_colors in (before, len(of_atoms) + len(of_bonds)):
            return of_atoms, of_bonds


def _whole(values: Float[np.ndarray, "..."], tolerance: float) -> Int[np.ndarray, "..."]:
    return np.rint(values / tolerance).astype(np.int64).view(np.uint64)


def _mixed(bits: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Hash that permutes the 64-bit integers (a SplitMix finalizer)."""
    bits = bits * _FACTORS[1]
    bits ^= bits >> _HALF
    bits *= _FACTORS[2]
    bits ^= bits >> _HALF
    return bits


def _numbered(colors: Colors) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """Index of each item's color by first appearance, and the first item and number of items of each color."""
    _, first, number, counts = np.unique(colors, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place[number], first[order], counts[order]
