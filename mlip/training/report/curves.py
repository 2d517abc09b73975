"""Learning curves from a run's records, for its report and for the picture at the end of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series
from mlip.report.picture import save_charts
from mlip.training.log import read_metrics
from mlip.training.quantity import Quantity
from mlip.training.report.predictions import COLORS

Curves = Mapping[str, str]
"""Axis labels by key of the records."""

_POINTS = 300
"""Largest number of points in a curve; longer ones are averaged over neighboring records."""


def plot_learning_curves(folder: Path, quantities: Sequence[Quantity]) -> None:
    """Write learning_curves.png: training and validation errors of a run folder against the step."""
    records = read_metrics(folder, "train"), read_metrics(folder, "validation")
    save_charts(curve_charts(*records, curves_of(quantities), is_log=True), folder / "learning_curves.png")


def curve_charts(
    train: Sequence[Mapping[str, Any]],
    validation: Sequence[Mapping[str, Any]],
    curves: Curves,
    *,
    is_log: bool = False,
    is_log_step: bool = False,
    guides: Mapping[str, float] | None = None,
) -> list[Chart]:
    """Charts against the step, one for each curve with records.

    Args:
        is_log: whether the vertical axes are logarithmic; a chart with negative values stays linear.
        is_log_step: whether the axis of steps is also logarithmic.
        guides: steps to mark in the charts, by name.
    """
    charts = []
    for key, label in curves.items():
        series = [
            Series(name, *_averaged(records, key), mark, COLORS[name])
            for name, records, mark in (("training", train, "line"), ("validation", validation, "marked line"))
            if any(record.get(key) is not None for record in records)
        ]
        if series:
            x = Axis.spanning("step", [one.x for one in series], is_log=is_log_step)
            has_log = is_log and not any((one.y < 0).any() for one in series)
            y = Axis.spanning(label, [one.y for one in series], is_log=has_log)
            charts.append(Chart(series, x, y, label.partition(",")[0], guides=guides or {}))
    return charts


def curves_of(quantities: Sequence[Quantity]) -> Curves:
    """Curves of the loss and of the errors of quantities."""
    errors = {of.error_key: f"{of.word} MAE" + (f", {of.unit}" if of.unit else "") for of in quantities}
    return {"loss": "loss", **errors}


def _averaged(records: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a curve; means over neighboring records if there are too many."""
    known = [(record["step"], record[key]) for record in records if record.get(key) is not None]
    parts = np.array_split(np.array(known, dtype=np.float64), min(len(known), _POINTS))
    steps, values = np.array([part.mean(axis=0) for part in parts]).T
    return steps, values
