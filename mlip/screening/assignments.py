"""All assignments of different elements to a prototype's sites, each crystal once, computed from their index.

An assignment is a set of elements and an order. Sets are numbered by the combinatorial number system; of orders that a
symmetry of the prototype makes equivalent, one is kept. All elements differ, so every class of equivalent orders has as
many members as there are symmetries, and index -> assignment takes constant time without a stored list.
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
    """Order i puts member orders[i, j] of the ascending set on site j; one order for each equivalence class."""

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
        """Binomial coefficients comb(c, i) at [i, c]."""
        return np.array([[math.comb(c, i) for c in range(len(self.elements) + 1)] for i in range(self.n_sites + 1)])

    def numbers(self, indices: Int[np.ndarray, " k"]) -> Int[np.ndarray, "k sites"]:
        """Atomic numbers of the assignments with these indices, 0 <= index < len(self)."""
        sets, orders = self.split(indices)
        members = np.empty((len(sets), self.n_sites), np.int64)
        rest = sets.copy()
        for i in range(self.n_sites, 0, -1):  # largest member c first: comb(c, i) sets have smaller members only
            members[:, i - 1] = np.searchsorted(self._binomials[i], rest, side="right") - 1
            rest -= self._binomials[i, members[:, i - 1]]
        return self.elements[np.take_along_axis(members, self.orders[orders], axis=1)]

    def split(self, indices: Int[np.ndarray, " k"]) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """Index of the set of elements, and of the order. Assignments of one set are consecutive."""
        return np.divmod(np.asarray(indices, np.int64), len(self.orders))


def distinct_orders(symmetries: Int[np.ndarray, "g sites"]) -> Int[np.ndarray, "o sites"]:
    """One order, the lexicographically first, of each class that is equivalent by symmetry; ascending.

    Args:
        symmetries: all permutations of sites that leave the crystal unchanged, the identity included; must be a group.
    """
    orders = []
    for order in itertools.permutations(range(symmetries.shape[1])):
        if order == min(tuple(order[site] for site in symmetry) for symmetry in symmetries.tolist()):
            orders.append(order)
    return np.array(orders, np.int64)
