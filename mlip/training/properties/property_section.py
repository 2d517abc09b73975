"""Section of a run's report about the property model: errors compared with a constant, parity chart, histogram, errors
by element, and the worst materials."""

import html
from collections import Counter
from collections.abc import Mapping

import numpy as np

from mlip.data import Store
from mlip.evaluation.property_errors import PropertyErrors, evaluate_property
from mlip.property_model import PropertyModel
from mlip.report.periodic_table import periodic_table
from mlip.report.pieces import table, tabs
from mlip.training.report.predictions import (
    HISTOGRAM_NOTE,
    PARITY_NOTE,
    PredictionReport,
    histogram,
    parity_chart,
    points,
)

_WORST = 20  # number of materials
_SPLITS = {"validation": "val", "test": "test"}

Splits = Mapping[str, PropertyErrors]
"""Errors by name of the split."""


def report_predictions(
    model: PropertyModel, store: Store, *, largest: float | None, at_most: int
) -> PredictionReport | None:
    """Report on at most `at_most` materials of each of the splits "val" and "test"; None if there are none to compare.

    Args:
        largest: materials with a larger value are left out, as in training.
    """
    found = {
        name: evaluate_property(model, store, split, largest=largest, at_most=at_most, allow_functional_mismatch=True)
        for name, split in _SPLITS.items()
    }
    splits = {name: errors for name, errors in found.items() if errors.ids}
    if not splits:
        return None
    name = model.metadata.property
    evaluated = [f"{len(errors.ids):,} of {errors.n_materials:,} {split} materials" for split, errors in splits.items()]
    sections = {
        "Parity": _parity(splits, name),
        "Errors by element": _elements(splits, name),
        "Distribution of errors": _distribution(splits, name),
        "Worst materials": _worst_materials(splits, name),
    }
    return PredictionReport(evaluated, _error_table(splits, name), sections)


def _error_table(splits: Splits, name: str) -> str:
    """Mean errors of each split, next to those of the best constant."""
    columns = ("", "materials", "MAE", "RMSE", "median error", "constant")
    rows = [
        (
            split,
            f"{len(errors.ids):,}",
            *(f"{error:.4g}" for error in (errors.mae, errors.rmse, errors.median, errors.mae_of_median)),
        )
        for split, errors in splits.items()
    ]
    notes = ["median error: of the absolute ones; constant: the MAE when all materials have the median of the labels"]
    notes += [
        f"{split}: {count:,} left out: {why}" for split, one in splits.items() for why, count in one.left_out.items()
    ]
    return table(f"Errors of {name}", columns, rows, notes=notes)


def _parity(splits: Splits, name: str) -> str:
    series = [points(split, one.labels, one.predicted, one.ids) for split, one in splits.items()]
    return f"{parity_chart(series, name, name).to_html()}<p class='note'>{PARITY_NOTE}</p>"


def _distribution(splits: Splits, name: str) -> str:
    chart = histogram({split: one.errors for split, one in splits.items()}, f"error of {name}", name)
    return f"{chart.to_html()}<p class='note'>{HISTOGRAM_NOTE}</p>"


def _elements(splits: Splits, name: str) -> str:
    """Periodic table colored by the error, over the materials of all splits."""
    together = _together(splits).of_elements
    notes = {symbol: f"in {count:,} materials" for symbol, (count, _) in together.items()}
    errors = {symbol: error for symbol, (_, error) in together.items()}
    counts = {symbol: float(count) for symbol, (count, _) in together.items()}
    tables = {
        "errors": periodic_table(errors, "", ".3g", notes),
        "materials": periodic_table(counts, "materials", ",.0f", notes),
    }
    note = f"MAE of {name} of the materials that contain an element; of {' and '.join(splits)} together."
    return f"{tabs('elements', tables)}<p class='note'>{note}</p>"


def _worst_materials(splits: Splits, name: str) -> str:
    of_split = [split for split, one in splits.items() for _ in one.ids]
    together = _together(splits)
    worst = np.argsort(-np.abs(together.errors), kind="stable")[:_WORST]
    rows = [
        (
            html.escape(together.ids[k]),
            together.formulas[k],
            of_split[k],
            *(f"{value[k]:.4g}" for value in (together.labels, together.predicted)),
            f"{together.errors[k]:+.4g}",
        )
        for k in worst
    ]
    columns = ("material", "formula", "split", "reference", "predicted", "error")
    return table(f"Largest errors of {name}", columns, rows, text_columns=columns[:3])


def _together(splits: Splits) -> PropertyErrors:
    every = list(splits.values())
    return PropertyErrors(
        sum(one.n_materials for one in every),
        [identifier for one in every for identifier in one.ids],
        [formula for one in every for formula in one.formulas],
        np.concatenate([one.labels for one in every]),
        np.concatenate([one.predicted for one in every]),
        np.concatenate([one.uncertainties for one in every]),
        sum((one.left_out for one in every), Counter()),
    )
