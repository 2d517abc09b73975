"""Axes of a chart: where a value stands along an axis, and the round numbers at its ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_FACTORS = (1, 2, 5)
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axis:
    label: str
    """Axis label, with the unit."""
    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False
    """Whether the values are integers, so that ticks stand at integers only."""

    @classmethod
    def spanning(cls, label: str, values: Iterable[np.ndarray], *, is_log: bool = False) -> "Axis":
        """Axis that spans all finite values (if logarithmic, all finite positive values), with a small margin at both
        ends."""
        known = np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in (*values, ())])
        known = known[np.isfinite(known) & ((known > 0) | (not is_log))]
        if not known.size:
            return cls(label, 0.1 if is_log else 0.0, 1.0, is_log)
        ends = np.array([known.min(), known.max()])
        if is_log:
            ends = np.log10(ends)
        room = 0.04 * (ends[1] - ends[0]) or max(0.1 * abs(ends[0]), 0.1)
        low, high = ends[0] - room, ends[1] + room
        return cls(label, 10**low, 10**high, True) if is_log else cls(label, float(low), float(high))

    def fractions(self, values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """Positions along the axis: 0 at the low end, 1 at the high end; NaN for values that cannot be placed."""
        values = np.asarray(values, dtype=np.float64)
        if not self.is_log:
            return (values - self.low) / (self.high - self.low)
        with np.errstate(invalid="ignore", divide="ignore"):
            logarithms = np.log10(np.where(values > 0, values, np.nan))
        return (logarithms - math.log10(self.low)) / math.log10(self.high / self.low)

    def ticks(self) -> list[float]:
        """Round values between `low` and `high`."""
        if self.is_log:
            for factors in ((1,), _FACTORS):
                ticks = [t for t in self._decades(factors) if self.low <= t <= self.high]
                if len(ticks) >= 3:
                    return ticks[:: math.ceil(len(ticks) / 7)]
        step = _round_step((self.high - self.low) / 3.5)
        if self.is_whole:
            step = max(step, 1.0)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [k * step for k in range(first, last + 1)]

    def _decades(self, factors: tuple[int, ...]) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return [factor * 10.0**exponent for exponent in exponents for factor in factors]


def tick_text(value: float) -> str:
    """Number as written at a tick, e.g. 0.002, 12,000 or 2·10⁻⁵."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.6g}".replace("-", "\N{MINUS SIGN}")
    mantissa, exponent = f"{value:.1e}".split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    mantissa = mantissa.removesuffix(".0")
    return power if mantissa == "1" else f"{mantissa}·{power}"


def _round_step(most: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... (and their tenths) that is not above `most`."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(factor * power for factor in _FACTORS if factor * power <= most)
