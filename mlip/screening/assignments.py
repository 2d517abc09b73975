"""All ways to put different elements on a prototype's sites, each crystal once, by number: nothing is kept in memory.

Assignment = (which elements, in which order). Sets of elements are counted by the combinatorial number system; orders
that a symmetry of the prototype makes equal count once. All elements differ, so every class of equal orders has as
many members as there are symmetries, and number -> assignment takes constant time.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True, eq=False)
class Assignments:
    """Assignments of n elements to a prototype's sites."""

    elements: Int[np.ndarray, " n"]
    """Atomic numbers, ascending."""
    orders: Int[np.ndarray, "o sites"]
    """Site j gets member orders[i, j] of the ascending set; one order of each class of equal ones."""

    def __len__(self) -> int:
        return self.n_sets * len(self.orders)

    @property
    def n_sites(self) -> int:
        return self.orders.shape[1]

    @property
    def n_sets(self) -> int:
        return math.comb(len(self.elements), self.n_sites)

    @cached_property
    def _binomials(self) -> Int[np.ndarray, "sites+1 n+1"]:
        """comb(c, i) at [i, c]."""
        return np.array([[math.comb(c, i) for c in range(len(self.elements) + 1)] for i in range(self.n_sites + 1)])

    def numbers(self, indices: Int[np.ndarray, " k"]) -> Int[np.ndarray, "k sites"]:
        """Atomic numbers of the assignments with these indices, 0 <= index < len(self)."""
        sets, orders = self.split(indices)
        members = np.empty((len(sets), self.n_sites), np.int64)
        rest = sets.copy()
        for i in range(self.n_sites, 0, -1):  # the largest member c first: comb(c, i) sets have smaller ones only
            members[:, i - 1] = np.searchsorted(self._binomials[i], rest, side="right") - 1
            rest -= self._binomials[i, members[:, i - 1]]
        return self.elements[np.take_along_axis(members, self.orders[orders], axis=1)]

    def split(self, indices: Int[np.ndarray, " k"]) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """Number of the set of elements, and of the order. Assignments of one set are neighbors."""
        return np.divmod(np.asarray(indices, np.int64), len(self.orders))


def distinct_orders(symmetries: Int[np.ndarray, "g sites"]) -> Int[np.ndarray, "o sites"]:
    """The orders that no symmetry makes equal, ascending.

    Args:
        symmetries: all permutations of sites that leave the crystal as it is, the identity included: a group.
    """
    orders = []
    for order in itertools.permutations(range(symmetries.shape[1])):
        if order == min(tuple(order[site] for site in symmetry) for symmetry in symmetries.tolist()):
            orders.append(order)
    return np.array(orders, np.int64)
