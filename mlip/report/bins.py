"""Bins of a histogram whose tails are long: the middle in equal bins, and everything beyond in one more bin a side."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_DRAWN = 0.99
"""Share of the values that the middle is wide enough for: the tails would flatten the rest."""


@dataclass(frozen=True)
class Bins:
    """Equal bins around 0. The outermost two hold all that lies beyond `reach`."""

    edges: Float[np.ndarray, " b+1"]

    @classmethod
    def around_zero(cls, values: Iterable[Float[np.ndarray, " k"]], n_bins: int) -> "Bins":
        """Bins for several sets of values, all on one scale; so many for the middle."""
        together = np.abs(np.concatenate([[], *values]))
        reach = max(float(np.quantile(together, _DRAWN)), 1e-3) if len(together) else 1e-3
        width = 2 * reach / n_bins
        return cls(np.linspace(-reach - width, reach + width, n_bins + 3))

    @property
    def reach(self) -> float:
        """Where the outermost bins begin, on either side of 0."""
        return float(self.edges[-2])

    @property
    def middles(self) -> Float[np.ndarray, " b"]:
        return (self.edges[1:] + self.edges[:-1]) / 2

    def shares(self, values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " b"]:
        """How much of the values is in each bin, %: 100 in all, or 0 without a value."""
        inside = np.clip(values, self.edges[0], self.edges[-1])
        return 100 * np.histogram(inside, self.edges)[0] / max(len(values), 1)

    def beyond(self, values: Float[np.ndarray, " k"]) -> tuple[int, int]:
        """How many values lie below and above the middle."""
        return int((values < self.edges[1]).sum()), int((values > self.edges[-2]).sum())

    def count(self, values: Float[np.ndarray, " k"]) -> str:
        """For a legend: how many values there are, and how many of them lie beyond the middle."""
        below, above = self.beyond(values)
        parts = [f"{n:,} {where}" for n, where in ((below, "below"), (above, "above")) if n]
        return f"{len(values):,}" + (f"; {', '.join(parts)}" if parts else "")

    @property
    def note(self) -> str:
        """Note on the outermost bins."""
        return f"outermost bins: all beyond ±{self.reach:.3g}"
