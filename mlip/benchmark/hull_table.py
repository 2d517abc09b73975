"""Table 5 of "Improving machine-learning models in materials science through large datasets": errors of distances to
the convex hull, and precision and recall for stable and nearly stable materials."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mlip.benchmark import published
from mlip.benchmark.intervals import RESAMPLES, Interval, intervals_95
from mlip.benchmark.tables import Cell, Estimate, Table

NEARLY_STABLE = 0.1
"""Distance to the hull up to which a material is nearly stable, eV/atom."""
_ROUNDING = 1e-6
"""Tolerance of comparisons with a threshold, eV/atom: labels have six or seven digits."""
_COLUMNS = {
    "failed_percent": ("Failed %", 2),
    "mad": ("MAD eV/atom", 4),
    "mae": ("MAE eV/atom", 4),
    "precision_stable": ("P stable", 3),
    "recall_stable": ("R stable", 3),
    "f1_stable": ("F1 stable", 3),
    "precision_near": ("P < 0.1", 3),
    "recall_near": ("R < 0.1", 3),
    "f1_near": ("F1 < 0.1", 3),
}


@dataclass(frozen=True)
class HullErrors:
    """A row of the table. A material without prediction counts as not stable, and is left out of averages. Values are
    NaN when no material is left."""

    n: int
    """Number of materials whose distance is known."""
    n_averaged: int
    """Number of materials with a prediction."""
    failed_percent: float
    mad: float
    """Median absolute error, eV/atom."""
    mae: float
    """Mean absolute error, eV/atom."""
    precision_stable: float
    """Share of the materials predicted to be stable (at most 0 above the hull) that are stable."""
    recall_stable: float
    """Share of the stable materials that are predicted to be stable."""
    f1_stable: float
    precision_near: float
    """Precision for materials at most 0.1 eV/atom above the hull."""
    recall_near: float
    f1_near: float


@dataclass(frozen=True)
class HullPredictions:
    """Distances to the hull by a potential or a property model, eV/atom; NaN where the prediction failed."""

    name: str
    predicted: Float[np.ndarray, " k"]
    reference: Float[np.ndarray, " k"]
    seconds: float
    """Mean time for a structure, s."""


def hull_errors(
    predicted: Float[np.ndarray, " k"], reference: Float[np.ndarray, " k"], n_atoms: Float[np.ndarray, " k"]
) -> HullErrors:
    """Errors of distances to the hull, eV/atom. `n_atoms` is unused: `intervals_95` requires this signature."""
    error = np.abs(predicted - reference)
    error = error[np.isfinite(error)]
    return HullErrors(
        len(reference),
        len(error),
        100 * float(np.isnan(predicted).mean()) if len(reference) else float("nan"),
        float(np.median(error)) if len(error) else float("nan"),
        float(error.mean()) if len(error) else float("nan"),
        *_found(predicted <= _ROUNDING, reference <= _ROUNDING),
        *_found(predicted <= NEARLY_STABLE + _ROUNDING, reference <= NEARLY_STABLE + _ROUNDING),
    )


def _found(predicted: Bool[np.ndarray, " k"], actual: Bool[np.ndarray, " k"]) -> tuple[float, float, float]:
    """Precision, recall and F1; NaN where the denominator is zero."""
    right = float((predicted & actual).sum())
    shares = [right / total if total else float("nan") for total in (float(predicted.sum()), float(actual.sum()))]
    total = float(predicted.sum() + actual.sum())
    return shares[0], shares[1], 2 * right / total if total else float("nan")


def hull_table(models: Sequence[HullPredictions], notes: Sequence[str] = (), with_paper: bool = False) -> Table:
    """The table with a row for each model; `with_paper` adds the published rows."""
    rows: list[tuple[Cell, ...]] = []
    for model in models:
        columns = model.predicted, model.reference, np.ones(len(model.reference))
        errors, intervals = hull_errors(*columns), intervals_95(hull_errors, *columns)
        cells = (
            Estimate(getattr(errors, field), digits, intervals.get(field, Interval(np.nan, np.nan)))
            for field, (_, digits) in _COLUMNS.items()
        )
        rows.append((model.name, *cells, str(errors.n_averaged), str(errors.n), Estimate(model.seconds, 4)))
    for name, numbers in published.HULL.items() if with_paper else ():
        cells = (numbers.get(field, "-") for field in _COLUMNS)
        rows.append((f"{name} (paper)", *cells, "-", "-", numbers["seconds"]))
    return Table(
        "hull",
        "Distance to the convex hull",
        ("potential", *(column for column, _ in _COLUMNS.values()), "materials", "of", "s each"),
        tuple(rows),
        (
            "MAD: median absolute error. P, R, F1: precision, recall and their harmonic mean for phases at most 0 and "
            f"{NEARLY_STABLE} eV/atom above the hull. 'materials' are those that MAD and MAE are of, 'of' all that are "
            "judged: what failed counts as not stable.",
            f"Intervals: 95 %, a bootstrap over materials ({RESAMPLES} samples, fixed seed); failed: Wilson's score.",
            *notes,
            *([f"(paper): {published.CITATION}."] if with_paper else []),
        ),
    )
