"""The candidates of a round: every prototype with every assignment of elements, by number. None is kept in memory.

Numbers run through the prototypes, in each through its assignments. A composition has a number, too: two candidates of
the same reduced composition have the same, whatever their prototypes.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Int

from mlip.errors import MlipError
from mlip.screening.assignments import Assignments
from mlip.screening.prototypes import ScreeningPrototype

BLOCK = 8192
"""Candidates that are predicted between two looks at the clock: half a second of a CPU."""


class Block(NamedTuple):
    """Candidates of one prototype, with the numbers start..stop - 1."""

    prototype: int
    start: int
    stop: int


class Candidates:
    """The candidates of a round.

    Raises:
        MlipError: more than 64 bits can count.
    """

    def __init__(self, prototypes: Sequence[ScreeningPrototype], symbols: Sequence[str]):
        elements = np.array(sorted(atomic_numbers[symbol] for symbol in symbols))
        self.prototypes = tuple(prototypes)
        self.elements = elements
        self.assignments = tuple(Assignments(elements, prototype.orders) for prototype in prototypes)
        sizes = [len(assignments) for assignments in self.assignments]
        if sum(sizes) * max(len(self._proportions), 1) >= 2**62:
            raise MlipError(f"{sum(sizes):.1e} candidates are more than can be counted", fix="fewer prototypes.sites")
        self.first = np.cumsum([0, *sizes])
        """Number of each prototype's first candidate, and at the end that of all."""

    def __len__(self) -> int:
        return int(self.first[-1])

    def blocks(self, start: int = 0) -> Iterator[Block]:
        """All from the number `start` on, which begins a block."""
        first = int(np.searchsorted(self.first, start, side="right")) - 1
        for k in range(first, len(self.prototypes)):
            begin, end = int(self.first[k]), int(self.first[k + 1])
            for block in range(max(begin, start), end, BLOCK):
                yield Block(k, block, min(block + BLOCK, end))

    def numbers(self, prototype: int, candidates: Int[np.ndarray, " k"]) -> Int[np.ndarray, "k sites"]:
        """Atomic numbers on the prototype's sites of its candidates with these numbers."""
        return self.assignments[prototype].numbers(candidates - self.first[prototype])

    def prototype_of(self, candidate: int) -> int:
        return int(np.searchsorted(self.first, candidate, side="right")) - 1

    def compositions(self, prototype: int, candidates: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Number of the reduced composition of each."""
        sets, orders = self.assignments[prototype].split(candidates - self.first[prototype])
        return self._proportions_of_order[prototype][orders] * self._most_sets + sets

    @cached_property
    def _most_sets(self) -> int:
        return max(assignments.n_sets for assignments in self.assignments)

    @cached_property
    def _proportions(self) -> list[tuple[int, ...]]:
        """Parts that the elements of a composition can have, by ascending atomic number, in lowest terms."""
        return sorted({parts for prototype in self.prototypes for parts in _parts_of_orders(prototype)})

    @cached_property
    def _proportions_of_order(self) -> list[Int[np.ndarray, " o"]]:
        place = {parts: k for k, parts in enumerate(self._proportions)}
        return [np.array([place[parts] for parts in _parts_of_orders(prototype)]) for prototype in self.prototypes]


def _parts_of_orders(prototype: ScreeningPrototype) -> list[tuple[int, ...]]:
    """Parts of the set's members in each order of the prototype."""
    counts = prototype.atoms_of_site // math.gcd(*prototype.atoms_of_site.tolist())
    return [tuple(counts[np.argsort(order)].tolist()) for order in prototype.orders]
