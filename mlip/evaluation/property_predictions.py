"""Predictions of a property model for formulas, tables of formulas, and materials of stores."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlip.data import Frame, Store
from mlip.data.readers.property_table import is_property_table, read
from mlip.data.records import Skipped
from mlip.data.shard import is_store
from mlip.errors import MlipError
from mlip.files.output_paths import writing_to
from mlip.property_model import PropertyModel


class NamedPrediction(NamedTuple):
    """Prediction for one material, in the property's unit; NaN with a reason if there is none."""

    name: str
    value: float
    uncertainty: float
    reason: str = ""


def materials_named(sources: Iterable[str]) -> Iterator[tuple[str, str | Frame | MlipError]]:
    """Name and content of each material: materials of stores and tables by id, and formulas.

    Raises:
        MlipError: a file is neither a store nor a table of formulas, or cannot be read.
    """
    for source in sources:
        path = Path(source)
        if not path.exists():
            yield source, source
        elif is_store(path):
            with Store(path) as store:
                for material in store.materials():
                    frame = store.relaxed_frame(material)
                    yield material.id, MlipError(material.why_not_relaxed) if frame is None else frame
        elif is_property_table(path):
            for one in read(path):
                is_bad = isinstance(one, Skipped)
                yield one.material_id, MlipError(f"{one.reason} ({one.detail})") if is_bad else one.frame
        else:
            raise MlipError("neither a store nor a CSV of formulas", where=source, fix="mlip data build makes a store")


def predictions(model: PropertyModel, sources: Iterable[str], dtype: str = "float32") -> list[NamedPrediction]:
    """Prediction for each material in order; a failure does not affect the others.

    Raises:
        MlipError: see `materials_named`.
    """
    named = list(materials_named(sources))
    sound = [content for _, content in named if not isinstance(content, MlipError)]
    results = iter(model.try_predict(sound, dtype=dtype))
    found = []
    for name, content in named:
        result = content if isinstance(content, MlipError) else next(results)
        if isinstance(result, MlipError):
            found.append(NamedPrediction(name, np.nan, np.nan, result.what))
        else:
            found.append(NamedPrediction(name, result.value, result.uncertainty))
    return found


def write_predictions(found: Iterable[NamedPrediction], path: Path) -> None:
    """Write a CSV with a row for each material; unknown numbers are empty."""
    with writing_to(path), path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("material", "predicted", "uncertainty", "reason"))
        for name, value, uncertainty, reason in found:
            writer.writerow((name, *("" if np.isnan(x) else f"{x:.8g}" for x in (value, uncertainty)), reason))
