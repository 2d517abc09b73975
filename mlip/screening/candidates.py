"""The candidates of a round: every prototype with every assignment of elements, computed from an index.

Indices run through the prototypes, and within each through its assignments. Compositions have a number, too: candidates
of the same reduced composition have the same number, whatever their prototypes.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Bool, Int

from mlip.errors import MlipError
from mlip.screening.assignments import Assignments
from mlip.screening.prototypes import ScreeningPrototype

BLOCK = 8192
"""Candidates of a block, the unit between two checks of the clock: takes about half a second on a CPU."""


class Block(NamedTuple):
    """Candidates start..stop - 1, all of one prototype."""

    prototype: int
    start: int
    stop: int


_BITS = 7
"""Number of bits of an atomic number in the key of an assignment."""


class Candidates:
    """The candidates of a round.

    Args:
        known: candidates to skip because they are known: prototype's name -> atomic numbers on its sites, shape (k,
            sites).

    Raises:
        MlipError: there are more candidates than 62 bits can number.
    """

    def __init__(
        self,
        prototypes: Sequence[ScreeningPrototype],
        symbols: Sequence[str],
        known: Mapping[str, Int[np.ndarray, "k sites"]] | None = None,
    ):
        self._known = {name: np.unique(_keys(np.asarray(rows))) for name, rows in (known or {}).items()}
        elements = np.array(sorted(atomic_numbers[symbol] for symbol in symbols))
        self.prototypes = tuple(prototypes)
        self.elements = elements
        self.assignments = tuple(Assignments(elements, prototype.orders) for prototype in prototypes)
        sizes = [len(assignments) for assignments in self.assignments]
        if sum(sizes) * max(len(self._proportions), 1) >= 2**62:
            raise MlipError(f"{sum(sizes):.1e} candidates are more than can be counted", fix="fewer prototypes.sites")
        self.first = np.cumsum([0, *sizes])
        """Index of each prototype's first candidate; the last entry is the number of all candidates."""

    def __len__(self) -> int:
        return int(self.first[-1])

    def blocks(self, start: int = 0) -> Iterator[Block]:
        """Blocks from the candidate `start` on, which must begin a block."""
        first = int(np.searchsorted(self.first, start, side="right")) - 1
        for k in range(first, len(self.prototypes)):
            begin, end = int(self.first[k]), int(self.first[k + 1])
            for block in range(max(begin, start), end, BLOCK):
                yield Block(k, block, min(block + BLOCK, end))

    def numbers(self, prototype: int, candidates: Int[np.ndarray, " k"]) -> Int[np.ndarray, "k sites"]:
        """Atomic numbers on the sites of a prototype for candidates with these indices."""
        return self.assignments[prototype].numbers(candidates - self.first[prototype])

    def are_known(self, prototype: int, numbers: Int[np.ndarray, "k sites"]) -> Bool[np.ndarray, " k"]:
        """Whether each assignment of a prototype is a known candidate."""
        known = self._known.get(self.prototypes[prototype].name)
        return np.zeros(len(numbers), bool) if known is None else np.isin(_keys(numbers), known)

    def checksum_of_known(self) -> str | None:
        """Checksum of the known candidates; None where there are none."""
        if not self._known:
            return None
        content = hashlib.sha256()
        for name in sorted(self._known):
            content.update(f"{name}:".encode() + self._known[name].astype("<i8").tobytes())
        return content.hexdigest()

    def prototype_of(self, candidate: int) -> int:
        return int(np.searchsorted(self.first, candidate, side="right")) - 1

    def compositions(self, prototype: int, candidates: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Number of each candidate's reduced composition."""
        sets, orders = self.assignments[prototype].split(candidates - self.first[prototype])
        return self._proportions_of_order[prototype][orders] * self._most_sets + sets

    @cached_property
    def _most_sets(self) -> int:
        return max(assignments.n_sets for assignments in self.assignments)

    @cached_property
    def _proportions(self) -> list[tuple[int, ...]]:
        """Distinct ratios of elements in a composition, in lowest terms and by ascending atomic number."""
        return sorted({parts for prototype in self.prototypes for parts in _parts_of_orders(prototype)})

    @cached_property
    def _proportions_of_order(self) -> list[Int[np.ndarray, " o"]]:
        place = {parts: k for k, parts in enumerate(self._proportions)}
        return [np.array([place[parts] for parts in _parts_of_orders(prototype)]) for prototype in self.prototypes]


def _keys(numbers: Int[np.ndarray, "k sites"]) -> Int[np.ndarray, " k"]:
    """One integer for each assignment of elements to a prototype's sites."""
    return numbers.astype(np.int64) @ (1 << (_BITS * np.arange(numbers.shape[1], dtype=np.int64)))


def _parts_of_orders(prototype: ScreeningPrototype) -> list[tuple[int, ...]]:
    """Ratios of the members of a set of elements, in lowest terms, for each order of the prototype."""
    counts = prototype.atoms_of_site // math.gcd(*prototype.atoms_of_site.tolist())
    return [tuple(counts[np.argsort(order)].tolist()) for order in prototype.orders]
