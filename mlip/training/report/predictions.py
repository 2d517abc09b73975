"""What the report of a run says of its model's predictions, and the charts that it says it with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mlip.report.axis import Axis
from mlip.report.chart import Series, chart

COLOURS = {"training": 0, "validation": 1, "test": 2}
"""Places in the page's palette, the same on all charts of a run's report."""
POINTS = 1500
"""Of a parity chart, of each split."""
PARITY_NOTE = f"At most {POINTS:,} points of each split are drawn, evenly chosen. Point at one to see whose it is."

_BINS = 60
_DRAWN = 0.99  # share of the errors that a histogram shows: its tails would flatten the rest
HISTOGRAM_NOTE = f"Predicted minus reference. The {1 - _DRAWN:.0%} with the largest errors lie beyond the axis."


@dataclass(frozen=True)
class PredictionReport:
    """HTML, of an exported model on the splits of its store that it was not trained on."""

    evaluated: Sequence[str]
    """E.g. "200 of 300 validation frames"."""
    table: str
    """Mean errors, for the beginning of the report."""
    sections: Mapping[str, str]
    """By heading."""


def points(
    split: str, labels: Float[np.ndarray, " k"], predicted: Float[np.ndarray, " k"], names: Sequence[str]
) -> Series:
    """Of a parity chart, evenly chosen; `names` tell whose each one is."""
    chosen = np.linspace(0, len(labels) - 1, min(len(labels), POINTS)).round().astype(int)
    notes = [names[k] for k in chosen]
    return Series(split, labels[chosen], predicted[chosen], "dots", COLOURS[split], notes)


def parity_chart(series: Sequence[Series], label: str, caption: str) -> str:
    """Predictions against labels, `label` with its unit."""
    both = [values for one in series for values in (one.x, one.y)]
    x, y = (Axis.spanning(f"{whose} {label}", both) for whose in ("reference", "predicted"))
    return chart(series, x, y, caption, is_parity=True)


def histogram(errors: Mapping[str, Float[np.ndarray, " k"]], label: str, caption: str) -> str:
    """Of each split's errors: predicted minus reference."""
    width = float(np.quantile(np.abs(np.concatenate(list(errors.values()))), _DRAWN)) or 1.0
    edges = np.linspace(-width, width, _BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    series = [
        Series(name, middles, 100 * np.histogram(values, edges)[0] / len(values), "bars", COLOURS[name])
        for name, values in errors.items()
    ]
    highest = max(one.y.max() for one in series)
    return chart(series, Axis(label, -width, width), Axis("share of all, %", 0.0, 1.05 * highest or 1.0), caption)
