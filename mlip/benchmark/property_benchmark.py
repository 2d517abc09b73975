"""Tables 1 and 2 of "Improving machine-learning models in materials science through large datasets": errors of property
models, a row for each property and model, beside mean and standard deviation of the labels.

The rows published in the paper are not included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mlip.benchmark.intervals import RESAMPLES, intervals_95
from mlip.benchmark.results import name_and_path
from mlip.benchmark.tables import Cell, Estimate, Table
from mlip.data import Store
from mlip.data.properties import UNITS
from mlip.errors import MlipError
from mlip.evaluation.property_errors import PropertyErrors, evaluate_property
from mlip.property_model import PropertyModel

_DIGITS = 4
_COLUMNS = ("mean", "std", "MAE", "err %", "median model", "within uncertainty %")


@dataclass(frozen=True)
class AverageErrors:
    """Mean errors over materials; NaN when there are none."""

    n: int
    """Number of materials."""
    mean: float
    """Mean of the labels."""
    std: float
    """Standard deviation of the labels."""
    mae: float
    relative_percent: float
    """MAE divided by the mean absolute label, %."""
    mae_of_median: float
    """MAE of a constant prediction, the median of the labels."""


def average_errors(
    predicted: Float[np.ndarray, " k"], reference: Float[np.ndarray, " k"], n_atoms: Float[np.ndarray, " k"]
) -> AverageErrors:
    """Mean errors of a property. `n_atoms` is unused: `intervals_95` requires this signature."""
    if not len(reference):
        return AverageErrors(0, *[float("nan")] * 5)
    mae, size = float(np.abs(predicted - reference).mean()), float(np.abs(reference).mean())
    return AverageErrors(
        len(reference),
        float(reference.mean()),
        float(reference.std()),
        mae,
        100 * mae / size if size else float("nan"),
        float(np.abs(reference - np.median(reference)).mean()),
    )


def run_property_benchmark(
    store: Path, models: Sequence[str], *, split: str = "test", allow_functional_mismatch: bool = False
) -> Table:
    """Evaluate models on a split ("all" for all materials), each on the property that it predicts.

    Args:
        models: paths of property models; NAME=PATH names the row.

    Raises:
        MlipError: there is no such store or model, no material has a label of a model's property, or labels are of
            another functional.
    """
    found: list[tuple[str, PropertyModel, PropertyErrors]] = []
    with Store(store) as opened:
        for text in models:
            name, path = name_and_path(text)
            model = PropertyModel.load(path)
            errors = evaluate_property(
                model,
                opened,
                None if split == "all" else split,
                allow_functional_mismatch=allow_functional_mismatch,
            )
            if not errors.ids:
                raise MlipError(f"no material of split {split!r} has {model.metadata.property}", where=str(store))
            found.append((name or path.stem, model, errors))
    found.sort(key=lambda one: one[1].metadata.property)  # stable sort: models keep their order
    return property_table(found)


def property_table(found: Sequence[tuple[str, PropertyModel, PropertyErrors]]) -> Table:
    """Table of models with their errors."""
    rows, notes = [], []
    for name, model, errors in found:
        rows.append(_row(name, model.metadata.property, errors))
        notes += [f"{name}: {count} materials left out: {why}." for why, count in errors.left_out.items()]
        notes += [f"{errors.functional_note}."] if errors.functional_note else []
    return Table(
        "properties",
        "Errors of properties",
        ("", "potential", *_COLUMNS, "materials"),
        tuple(rows),
        (
            "err %: MAE over the mean of the labels' absolute values. Median model: MAE of the labels' median as the "
            "prediction for all.",
            f"Intervals: 95 %, a bootstrap over materials ({RESAMPLES} samples, fixed seed).",
            *dict.fromkeys(notes),
        ),
    )


def _row(name: str, of_property: str, errors: PropertyErrors) -> tuple[Cell, ...]:
    columns = errors.predicted, errors.labels, np.ones(len(errors.labels))
    averages, intervals = average_errors(*columns), intervals_95(average_errors, *columns)
    unit = UNITS.get(of_property)
    return (
        f"{of_property}, {unit}" if unit else of_property,
        name,
        Estimate(averages.mean, _DIGITS),
        Estimate(averages.std, _DIGITS),
        Estimate(averages.mae, _DIGITS, intervals["mae"]),
        Estimate(averages.relative_percent, 2, intervals["relative_percent"]),
        Estimate(averages.mae_of_median, _DIGITS),
        Estimate(100 * errors.within_uncertainty, 0),
        f"{len(errors.ids):,}",
    )
