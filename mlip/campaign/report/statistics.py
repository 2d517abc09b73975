"""Hit rates and median distances with 95 % intervals, for the candidates of a round and for random ones."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mlip.benchmark.intervals import RESAMPLES, SEED, Interval, percentiles, wilson

HIT = 0.0
"""Distance to the hull before the round up to which a calculation is a hit, eV/atom."""
NEAR = 0.05
"""Distance to the hull up to which a phase may well be synthesizable, eV/atom."""
_ROUNDING = 1e-9
"""Tolerance for rounding, eV/atom."""


class Rate(NamedTuple):
    """The share of calculations that are hits."""

    hits: int
    calculations: int
    per_thousand: float
    interval: Interval
    """Wilson's 95 % interval, per thousand."""


class Median(NamedTuple):
    value: float
    """Median distance to the hull, eV/atom; NaN without calculations."""
    interval: Interval
    """95 % interval by the percentile bootstrap."""


def hit_rate(distances: Float[np.ndarray, " k"], at_most: float = HIT) -> Rate:
    """Hit rate of finished calculations.

    Args:
        distances: distances to the hull of finished calculations, eV/atom.
        at_most: largest distance that counts as a hit, eV/atom.
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
    """Ratio of the hit rate to that of random candidates, as text."""
    if not ours.calculations or not chance.calculations:
        return "unknown"
    if chance.hits:
        return f"{ours.per_thousand / chance.per_thousand:.1f}"
    if not ours.hits:
        return "no hits on either side"
    # Lower limit from the intervals; a ratio to a rate that may be 0 has no upper limit.
    least = ours.interval.low / chance.interval.high
    return f"more than {least:.1f}" if least > 1 else "too few to tell"
