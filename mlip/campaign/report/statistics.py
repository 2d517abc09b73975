"""Hits and medians of a round beside those of chance, each with its 95 % interval."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mlip.benchmark.intervals import RESAMPLES, SEED, Interval, percentiles, wilson

HIT = 0.0
"""eV/atom: a calculation that ends here or below, relative to the hull before it, is a hit."""
NEAR = 0.05
"""eV/atom: what may well be made, though it is above the hull."""
_ROUNDING = 1e-9
"""eV/atom."""


class Rate(NamedTuple):
    """How many of some calculations are hits."""

    hits: int
    calculations: int
    per_thousand: float
    interval: Interval
    """Wilson's, per thousand."""


class Median(NamedTuple):
    value: float
    """eV/atom; NaN of nothing."""
    interval: Interval
    """Percentile bootstrap."""


def hit_rate(distances: Float[np.ndarray, " k"], at_most: float = HIT) -> Rate:
    """
    Args:
        distances: of finished calculations, eV/atom.
        at_most: what counts as a hit, eV/atom.
    """
    n, hits = len(distances), int((distances <= at_most + _ROUNDING).sum())
    share = hits / n if n else float("nan")
    low, high = wilson(100 * share, n)
    return Rate(hits, n, 1000 * share, Interval(10 * low, 10 * high))


def median(distances: Float[np.ndarray, " k"]) -> Median:
    if not len(distances):
        return Median(float("nan"), Interval(float("nan"), float("nan")))
    drawn = np.random.default_rng(SEED).integers(len(distances), size=(RESAMPLES, len(distances)))
    return Median(float(np.median(distances)), percentiles(np.median(distances[drawn], axis=1).tolist()))


def times_chance(ours: Rate, chance: Rate) -> str:
    """How many times more hits than by chance, in words."""
    if not ours.calculations or not chance.calculations:
        return "unknown"
    if chance.hits:
        return f"{ours.per_thousand / chance.per_thousand:.1f}"
    if not ours.hits:
        return "no hits on either side"
    # What the intervals leave open; a factor of a rate that may be 0 has no upper end.
    least = ours.interval.low / chance.interval.high
    return f"more than {least:.1f}" if least > 1 else "too few to tell"
