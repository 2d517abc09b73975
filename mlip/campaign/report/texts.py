"""Numbers of a report as text; what is not known is a dash."""

import math

from mlip.benchmark.intervals import Interval

UNKNOWN = "\N{EN DASH}"


def shown(value: float, form: str = ",.0f") -> str:
    """A number, or the dash."""
    return format(value, form).replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else UNKNOWN


def rounded(value: float) -> str:
    """A number to three digits, or the dash: 0.00123, 1,090, 79,200,000."""
    return shown(float(f"{value:.3g}"), ",.12g")


def with_interval(value: float, interval: Interval, form: str) -> str:
    """HTML: a number with its interval behind it, small."""
    if not math.isfinite(value):
        return UNKNOWN
    return f"{shown(value, form)} <small>[{shown(interval.low, form)}, {shown(interval.high, form)}]</small>"


def duration(seconds: float) -> str:
    """In the largest unit of which there are at least two: "90 s", "3.2 h"."""
    if not math.isfinite(seconds):
        return UNKNOWN
    for size, unit in ((365.25 * 86400, "years"), (86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.3g} s"
