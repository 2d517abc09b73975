"""Screening of a block of candidates: counts, a histogram, and the candidates below the cutoff.

Candidates that the rules forbid, that are known already, or whose composition the sieve drops, are not predicted.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mlip.property_model import PropertyModel
from mlip.screening.candidates import Block, Candidates
from mlip.screening.prediction import Predictor
from mlip.screening.rules import Rules
from mlip.screening.screening_recipe import MAX_SITES, KeepRecipe
from mlip.screening.sieve import Sieve

EDGES = np.round(np.arange(-1.0, 4.0 + 1e-9, 0.02), 2)
"""Edges of the histogram's bins, eV/atom; values beyond are counted in the outermost bins."""


@dataclass(frozen=True)
class Screened:
    """Results of screening a block."""

    n_allowed: int
    """Number of candidates that are predicted: allowed by the rules and the sieve, and not known."""
    n_not_finite: int
    histogram: Int[np.ndarray, "sites bins"]
    """Counts of predicted distances; row i is for i + 1 elements."""
    compositions: Int[np.ndarray, " k"]
    """Composition numbers of the candidates below the cutoff, in the order of `candidates` and `distances`."""
    candidates: Int[np.ndarray, " k"]
    distances: Float[np.ndarray, " k"]


class Screener:
    """Screens blocks, in this process or on a worker."""

    def __init__(
        self,
        model: PropertyModel,
        candidates: Candidates,
        rules: Rules,
        keep: KeepRecipe,
        sieve: Sieve | None = None,
    ):
        self._candidates, self._rules, self._keep, self._sieve = candidates, rules, keep, sieve
        self._predictor = Predictor(model)

    def screen(self, block: Block) -> Screened:
        prototype = self._candidates.prototypes[block.prototype]
        candidates = np.arange(block.start, block.stop)
        numbers = self._candidates.numbers(block.prototype, candidates)
        allowed = self._rules.allow(numbers, prototype.atoms_of_site) & ~self._candidates.are_known(
            block.prototype, numbers
        )
        candidates, numbers = candidates[allowed], numbers[allowed]
        if self._sieve is not None:
            passed = self._sieve.passes(numbers, prototype.atoms_of_site)
            candidates, numbers = candidates[passed], numbers[passed]
        distances = self._predictor.predict(prototype.graph, numbers)
        finite = np.isfinite(distances)
        stay = finite & (distances < self._keep.cutoff(prototype.n_sites))
        return Screened(
            n_allowed=len(candidates),
            n_not_finite=int((~finite).sum()),
            histogram=_histogram(distances[finite], prototype.n_sites),
            compositions=self._candidates.compositions(block.prototype, candidates[stay]),
            candidates=candidates[stay],
            distances=distances[stay],
        )


def empty_histogram() -> Int[np.ndarray, "sites bins"]:
    return np.zeros((MAX_SITES, len(EDGES) - 1), np.int64)


def _histogram(distances: Float[np.ndarray, " k"], n_sites: int) -> Int[np.ndarray, "sites bins"]:
    histogram = empty_histogram()
    inside = np.clip(distances, EDGES[0], EDGES[-1])
    histogram[n_sites - 1] = np.histogram(inside, EDGES)[0]
    return histogram
