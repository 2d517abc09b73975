"""Predictions in a run's report, and their charts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mlip.report.axis import Axis
from mlip.report.bins import Bins
from mlip.report.chart import Chart, Series

COLORS = {"training": 0, "validation": 1, "test": 2}
"""Index of each split's color in the page's palette, the same in all charts of a run's report."""
POINTS = 1500
"""Largest number of points of each split in a parity chart."""
PARITY_NOTE = f"At most {POINTS:,} points of each split are drawn, evenly chosen. Point at one to see whose it is."

_BINS = 60
HISTOGRAM_NOTE = "Predicted minus reference. The outermost bins hold all that lies beyond them."


@dataclass(frozen=True)
class PredictionReport:
    """HTML about an exported model on the splits of its store that were not used for training."""

    evaluated: Sequence[str]
    """Descriptions such as "200 of 300 validation frames"."""
    table: str
    """Table of mean errors, for the beginning of the report."""
    sections: Mapping[str, str]
    """HTML of the sections by heading."""


def points(
    split: str, labels: Float[np.ndarray, " k"], predicted: Float[np.ndarray, " k"], names: Sequence[str] | None = None
) -> Series:
    """Evenly selected points of a parity chart; `names` label them in an HTML page."""
    chosen = np.linspace(0, len(labels) - 1, min(len(labels), POINTS)).round().astype(int)
    notes = names and [names[k] for k in chosen]
    return Series(split, labels[chosen], predicted[chosen], "dots", COLORS[split], notes)


def parity_chart(series: Sequence[Series], label: str, caption: str) -> Chart:
    """Chart of predictions against labels; `label` includes the unit."""
    both = [values for one in series for values in (one.x, one.y)]
    x, y = (Axis.spanning(f"{whose} {label}", both) for whose in ("reference", "predicted"))
    return Chart(series, x, y, caption, is_parity=True)


def histogram(errors: Mapping[str, Float[np.ndarray, " k"]], label: str, caption: str) -> Chart:
    """Histogram of the errors of each split, predicted minus reference."""
    bins = Bins.around_zero(errors.values(), _BINS)
    series = [Series(name, bins.middles, bins.shares(values), "bars", COLORS[name]) for name, values in errors.items()]
    highest = max(one.y.max() for one in series)
    x = Axis(label, bins.edges[0], bins.edges[-1])
    return Chart(series, x, Axis("share of all, %", 0.0, 1.05 * highest or 1.0), f"{caption} ({bins.note})")
