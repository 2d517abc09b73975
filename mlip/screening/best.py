"""The best candidate found so far for each composition."""

import numpy as np
from jaxtyping import Float, Int

_ENOUGH = 1 << 16
"""Number of candidates collected before they are sorted in."""


class Best:
    """For each composition the candidate with the lowest distance to the hull; the lowest index breaks ties.

    The final content only depends on the candidates, not on the order in which they were added.

    Args:
        at_most: number of compositions to keep, those of lowest distance; None = all.
    """

    def __init__(
        self,
        at_most: int | None = None,
        compositions: Int[np.ndarray, " k"] | None = None,
        candidates: Int[np.ndarray, " k"] | None = None,
        distances: Float[np.ndarray, " k"] | None = None,
    ):
        self._at_most = at_most
        empty = np.zeros(0, np.int64)
        self.compositions = empty if compositions is None else compositions
        self.candidates = empty if candidates is None else candidates
        self.distances = empty.astype(float) if distances is None else distances
        """Predicted distances to the hull, eV/atom."""
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._n_waiting = 0

    def add(
        self,
        compositions: Int[np.ndarray, " k"],
        candidates: Int[np.ndarray, " k"],
        distances: Float[np.ndarray, " k"],
    ) -> None:
        self._waiting.append((compositions, candidates, distances))
        self._n_waiting += len(candidates)
        if self._n_waiting > max(_ENOUGH, len(self.candidates)):  # amortized: each candidate is sorted only a few times
            self.settle()

    def settle(self) -> None:
        """Sort in the added candidates: the three arrays are by ascending distance, then by index."""
        held = (self.compositions, self.candidates, self.distances)
        together = [np.concatenate(column) for column in zip(held, *self._waiting, strict=True)]
        self._waiting, self._n_waiting = [], 0
        compositions, candidates, distances = (column[_by_distance(*together)] for column in together)
        _, first = np.unique(compositions, return_index=True)
        kept = np.sort(first)[: self._at_most]
        self.compositions, self.candidates, self.distances = compositions[kept], candidates[kept], distances[kept]


def _by_distance(compositions: np.ndarray, candidates: np.ndarray, distances: np.ndarray) -> Int[np.ndarray, " k"]:
    return np.lexsort((candidates, distances))
