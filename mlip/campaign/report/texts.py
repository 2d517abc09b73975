"""Numbers of a report as text; unknown values are a dash."""

import math

from mlip.benchmark.intervals import Interval

UNKNOWN = "\N{EN DASH}"


def shown(value: float, form: str = ",.0f") -> str:
    """A number as text; a dash if it is not finite."""
    return format(value, form).replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else UNKNOWN


def rounded(value: float) -> str:
    """A number with three significant digits: 0.00123, 1,090, 79,200,000; a dash if it is not finite."""
    return shown(float(f"{value:.3g}"), ",.12g")


def with_interval(value: float, interval: Interval, form: str) -> str:
    """HTML of a number, followed by its interval in small print."""
    if not math.isfinite(value):
        return UNKNOWN
    return f"{shown(value, form)} <small>[{shown(interval.low, form)}, {shown(interval.high, form)}]</small>"


def duration(seconds: float) -> str:
    """Duration in the largest unit of which there are at least two: "90 s", "3.2 h"."""
    if not math.isfinite(seconds):
        return UNKNOWN
    for size, unit in ((365.25 * 86400, "years"), (86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.3g} s"
