"""Histogram bins for long-tailed values: equal bins in the middle, and one bin on each side for everything beyond."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_DRAWN = 0.99
"""Fraction of the values that the middle bins span. Spanning the tails as well would flatten the rest."""


@dataclass(frozen=True)
class Bins:
    """Equal bins around 0. The two outermost bins hold all values beyond `reach`."""

    edges: Float[np.ndarray, " b+1"]

    @classmethod
    def around_zero(cls, values: Iterable[Float[np.ndarray, " k"]], n_bins: int) -> "Bins":
        """Bins on one scale for several sets of values; `n_bins` is the number of bins in the middle."""
        together = np.abs(np.concatenate([[], *values]))
        reach = max(float(np.quantile(together, _DRAWN)), 1e-3) if len(together) else 1e-3
        width = 2 * reach / n_bins
        return cls(np.linspace(-reach - width, reach + width, n_bins + 3))

    @property
    def reach(self) -> float:
        """Distance from 0 at which the outermost bins begin."""
        return float(self.edges[-2])

    @property
    def middles(self) -> Float[np.ndarray, " b"]:
        return (self.edges[1:] + self.edges[:-1]) / 2

    def shares(self, values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " b"]:
        """Percentage of the values in each bin; 100 in total, or 0 without values."""
        inside = np.clip(values, self.edges[0], self.edges[-1])
        return 100 * np.histogram(inside, self.edges)[0] / max(len(values), 1)

    def beyond(self, values: Float[np.ndarray, " k"]) -> tuple[int, int]:
        """Numbers of values below -`reach` and above `reach`."""
        return int((values < self.edges[1]).sum()), int((values > self.edges[-2]).sum())

    def count(self, values: Float[np.ndarray, " k"]) -> str:
        """Text for a legend: the number of values, and how many of them lie beyond `reach`."""
        below, above = self.beyond(values)
        parts = [f"{n:,} {where}" for n, where in ((below, "below"), (above, "above")) if n]
        return f"{len(values):,}" + (f"; {', '.join(parts)}" if parts else "")

    @property
    def note(self) -> str:
        """Note for a caption that explains the outermost bins."""
        return f"outermost bins: all beyond ±{self.reach:.3g}"
