"""Errors of a property model on the materials of a store, compared with the best constant."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mlip.data import Store
from mlip.data.formula import symbols_in
from mlip.data.properties import property_of
from mlip.data.store import Material
from mlip.errors import MlipError
from mlip.evaluation.split_errors import evenly_chosen
from mlip.files.output_paths import writing_to
from mlip.functionals import check_functionals
from mlip.property_model import PropertyModel


@dataclass(frozen=True)
class PropertyErrors:
    """Labels and predictions for the materials of a split, in the property's unit."""

    n_materials: int
    """Number of materials of the split that have the property; fewer may be compared."""
    ids: list[str]
    formulas: list[str]
    labels: Float[np.ndarray, " k"]
    predicted: Float[np.ndarray, " k"]
    uncertainties: Float[np.ndarray, " k"]
    """Standard deviations of the errors as predicted by the model; NaN if it was not trained to predict them."""
    left_out: Counter[str]
    """Number of materials without a prediction, by reason."""
    functional_note: str | None = None
    """Sentence for the table unless model and labels are known to have the same functional."""

    @property
    def errors(self) -> Float[np.ndarray, " k"]:
        """Prediction minus label."""
        return self.predicted - self.labels

    @property
    def mae(self) -> float:
        return float(np.abs(self.errors).mean())

    @property
    def rmse(self) -> float:
        return float(np.sqrt((self.errors**2).mean()))

    @property
    def median(self) -> float:
        """Median of the absolute errors."""
        return float(np.median(np.abs(self.errors)))

    @property
    def mae_of_median(self) -> float:
        """MAE of predicting the median of the labels for all materials; no constant has a smaller one."""
        return float(np.abs(self.labels - np.median(self.labels)).mean())

    @property
    def knows_uncertainty(self) -> bool:
        return bool(np.isfinite(self.uncertainties).any())

    @property
    def within_uncertainty(self) -> float:
        """Fraction of the materials whose error is at most their uncertainty; NaN without one."""
        return float((np.abs(self.errors) <= self.uncertainties).mean()) if self.knows_uncertainty else np.nan

    @property
    def mean_label(self) -> float:
        """Mean absolute value of the labels."""
        return float(np.abs(self.labels).mean())

    @property
    def of_elements(self) -> dict[str, tuple[int, float]]:
        """Number of materials that contain each element, and their MAE, by symbol."""
        errors: dict[str, list[float]] = {}
        for formula, error in zip(self.formulas, np.abs(self.errors), strict=True):
            for symbol in symbols_in(formula):
                errors.setdefault(symbol, []).append(float(error))
        return {symbol: (len(values), float(np.mean(values))) for symbol, values in errors.items()}

    def as_json(self) -> dict[str, Any]:
        """JSON-serializable dict of the errors."""
        return {
            "n_materials": len(self.ids),
            "mae": self.mae,
            "rmse": self.rmse,
            "median_error": self.median,
            "mae_of_median": self.mae_of_median,
            "mean_uncertainty": float(self.uncertainties.mean()) if self.knows_uncertainty else None,
            "within_uncertainty": self.within_uncertainty if self.knows_uncertainty else None,
            "elements": {
                symbol: {"n_materials": count, "mae": mae} for symbol, (count, mae) in sorted(self.of_elements.items())
            },
            "left_out": dict(self.left_out),
            "functional_note": self.functional_note,
        }


def write_predictions(errors: PropertyErrors, path: Path) -> None:
    """Write a CSV with a row for each material: id, formula, label, prediction, uncertainty (empty if unknown)."""
    with writing_to(path), path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "formula", "label", "predicted", "uncertainty"))
        columns = (errors.ids, errors.formulas, errors.labels, errors.predicted, errors.uncertainties)
        for identifier, formula, *numbers in zip(*columns, strict=True):
            writer.writerow((identifier, formula, *("" if np.isnan(x) else f"{x:.8g}" for x in numbers)))


def evaluate_property(
    model: PropertyModel,
    store: Store,
    split: str | None = None,
    *,
    largest: float | None = None,
    at_most: int | None = None,
    dtype: str = "float32",
    allow_functional_mismatch: bool = False,
) -> PropertyErrors:
    """Predictions for the relaxed structures of a split's materials (None for all).

    Args:
        largest: materials with a larger value are left out, as in training.
        at_most: largest number of materials, evenly selected.
        allow_functional_mismatch: allow labels from another functional than the model's.

    Raises:
        MlipError: the labels are from another functional, or the dtype is unknown.
    """
    name = model.metadata.property
    labeled = [
        (material, label)
        for material in store.materials()
        if split in (None, material.split) and (label := property_of(store, material, name)) is not None
    ]
    if largest is not None:
        labeled = [(material, label) for material, label in labeled if label <= largest]
    functional_note = check_functionals(
        model.metadata.functional,
        {material.functional for material, _ in labeled},
        of_ours="the model",
        of_theirs="the labels",
        where=str(store.path),
        allowed=allow_functional_mismatch,
    )
    chosen = evenly_chosen(np.arange(len(labeled)), len(labeled) if at_most is None else at_most)
    left_out: Counter[str] = Counter()
    relaxed: list[tuple[Material, float]] = []
    for material, label in (labeled[k] for k in chosen):
        if why := material.why_not_relaxed:
            left_out[why] += 1
        else:
            relaxed.append((material, label))
    results = model.try_predict([store.relaxed_frame(material) for material, _ in relaxed], dtype=dtype)
    left_out.update(result.what for result in results if isinstance(result, MlipError))
    predicted = [
        (material, label, result)
        for (material, label), result in zip(relaxed, results, strict=True)
        if not isinstance(result, MlipError)
    ]
    return PropertyErrors(
        len(labeled),
        [material.id for material, _, _ in predicted],
        [material.formula for material, _, _ in predicted],
        np.array([label for _, label, _ in predicted]),
        np.array([result.value for _, _, result in predicted]),
        np.array([result.uncertainty for _, _, result in predicted]),
        left_out,
        functional_note,
    )
