"""95 % confidence intervals of a table's numbers, over the choice of materials.

Averages have the percentile bootstrap (B. Efron, Ann. Stat. 7, 1 (1979)): materials are drawn with replacement, with a
fixed seed. Shares have Wilson's score interval (J. Am. Stat. Assoc. 22, 209 (1927)), because the bootstrap interval is
a point where nothing failed: no sample fails either.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

RESAMPLES = 1000
SEED = 0
_PERCENTILES = (2.5, 97.5)
_Z = 1.959964  # 97.5 % quantile of the standard normal distribution


class Interval(NamedTuple):
    low: float
    high: float


def intervals_95(
    errors_of: Callable[..., Any],
    predicted: Float[np.ndarray, " k"],
    reference: Float[np.ndarray, " k"],
    n_atoms: Float[np.ndarray, " k"],
) -> dict[str, Interval]:
    """95 % intervals of the numbers that `errors_of` gives for these materials, by field; NaN without materials.

    Args:
        errors_of: `volume_errors`, `energy_errors` or `energy_distribution` of `mlip.benchmark.metrics`, or a function
            with the same signature that returns a dataclass.
    """
    found = asdict(errors_of(predicted, reference, n_atoms))
    generator = np.random.default_rng(SEED)
    samples = []
    for _ in range(RESAMPLES if len(predicted) else 0):
        drawn = generator.integers(len(predicted), size=len(predicted))
        samples.append(asdict(errors_of(predicted[drawn], reference[drawn], n_atoms[drawn])))
    n_relaxed = int((np.isfinite(predicted) & np.isfinite(reference)).sum())
    shares = {"failed_percent": found["n"], "outlier_percent": n_relaxed}
    return {
        name: wilson(value, shares[name]) if name in shares else percentiles([s[name] for s in samples])
        for name, value in found.items()
        if not name.startswith("n_") and name != "n"
    }


def wilson(percent: float, n: int) -> Interval:
    """Wilson's 95 % interval of a share `percent` of `n`, in %."""
    if n == 0:
        return Interval(float("nan"), float("nan"))
    share = percent / 100
    center = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low, high = np.clip(100 * np.round([center - half, center + half], 12), 0, 100) + 0.0  # no "-0.00" in tables
    return Interval(float(low), float(high))


def percentiles(values: list[float]) -> Interval:
    """95 % percentile interval of bootstrap samples, without those that are not finite; NaN if none is left."""
    values = np.array(values)
    values = values[np.isfinite(values)]  # a sample may hold failures only
    return Interval(*map(float, np.percentile(values, _PERCENTILES))) if len(values) else Interval(np.nan, np.nan)
