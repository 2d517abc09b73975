"""Section of a run's report about the potential: errors compared with trivial predictors, parity charts, histograms,
errors by element on the periodic table, and the worst materials."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from mlip.data import Store
from mlip.evaluation.comparison import Comparison, Pair
from mlip.evaluation.element_errors import ElementRow
from mlip.evaluation.frame_errors import ErrorRow, Errors
from mlip.evaluation.split_errors import SplitErrors, evaluate_split
from mlip.potential import Potential
from mlip.report.chart import Series, side_by_side
from mlip.report.periodic_table import periodic_table
from mlip.report.pieces import table, tabs
from mlip.training.potentials.parity import PARITY
from mlip.training.potentials.worst_materials import worst_materials
from mlip.training.report.predictions import (
    HISTOGRAM_NOTE,
    PARITY_NOTE,
    PredictionReport,
    histogram,
    parity_chart,
    points,
)

_ERRORS = {
    "energy": ("energy error, meV/atom", 1000),
    "forces": ("error of a force component, eV/Å", 1),
    "stress": ("error of a stress component, GPa", 1),
}


def report_predictions(potential: Potential, store: Store, at_most: int) -> PredictionReport | None:
    """Report on at most `at_most` frames of each of the splits "val" and "test"; None if there are none to compare."""
    found = [evaluate_split(potential, store, split, at_most) for split in ("val", "test")]
    splits = [split for split in found if split is not None]
    if not splits:
        return None
    sections = {
        "Parity": parity_charts(splits),
        "Errors by element": elements_section(splits),
        "Distribution of errors": histograms(splits),
        "Worst materials": worst_materials(splits),
    }
    evaluated = [f"{split.errors.n_frames:,} of {split.n_frames:,} {split.name} frames" for split in splits]
    return PredictionReport(evaluated, error_table(splits), sections)


def error_table(splits: Sequence[SplitErrors]) -> str:
    """Mean errors of each split and dimensionality, next to those of the predictors E0 only, F = 0 and S = 0."""
    columns = (
        "",
        "frames",
        "E MAE\nmeV/atom",
        "E RMSE\nmeV/atom",
        "E0 only\nmeV/atom",
        "F MAE\neV/Å",
        "F RMSE\neV/Å",
        "F = 0\neV/Å",
        "S MAE\nGPa",
        "S RMSE\nGPa",
        "S = 0\nGPa",
    )
    rows = [(f"{one.name}, {row.dimensionality}", *_texts(row)) for one in splits for row in _rows_of(one.errors)]
    notes = [
        *(
            f"{one.name}: {one.errors.n_frames:,} of {one.n_frames:,} frames"
            for one in splits
            if one.errors.n_frames < one.n_frames
        ),
        *(f"{one.name}: {count:,} left out: {why}" for one in splits for why, count in one.errors.left_out.items()),
    ]
    return table("Errors beside those of predictors that know nothing", columns, rows, notes=notes)


def parity_charts(splits: Sequence[SplitErrors]) -> str:
    """Charts of predictions against labels."""
    charts = []
    for quantity, (caption, label) in PARITY.items():
        series = [one for split in splits if len((one := _points(split, quantity)).x)]
        if series:
            charts.append(parity_chart(series, label, caption))
    return f"{side_by_side(charts)}<p class='note'>{PARITY_NOTE}</p>"


def histograms(splits: Sequence[SplitErrors]) -> str:
    """Histograms of the errors, potential minus label."""
    charts = []
    for quantity, (label, factor) in _ERRORS.items():
        errors = {split.name: factor * getattr(split.comparison, quantity).known().errors for split in splits}
        errors = {name: values for name, values in errors.items() if values.size}
        if errors:
            charts.append(histogram(errors, label, PARITY[quantity][0]))
    return f"{side_by_side(charts)}<p class='note'>{HISTOGRAM_NOTE}</p>"


def elements_section(splits: Sequence[SplitErrors]) -> str:
    """Periodic tables colored by several errors, and all numbers as a table."""
    together = Errors()
    for split in splits:
        together.add(split.comparison)
    rows = together.elements
    notes = {row.element: f"{row.n_atoms:,} atoms in {row.n_frames:,} frames" for row in rows}
    panels = {
        "forces": ({row.element: row.forces_mae for row in rows}, "eV/Å", ".3f"),
        "energies": ({row.element: row.energy_mae for row in rows}, "meV/atom", ".0f"),
        "energy offsets": ({row.element: row.energy_offset for row in rows}, "meV", "+.0f"),
        "frames": ({row.element: float(row.n_frames) for row in rows}, "frames", ",.0f"),
    }
    tables = {name: periodic_table(*values, notes) for name, values in panels.items()}
    note = (
        f"Of {' and '.join(split.name for split in splits)} together. Forces: MAE of the components of an element's "
        "atoms. Energies: MAE of the frames that contain it. Energy offsets: the constant an atom that explains most "
        "of the energy errors."
    )
    numbers = f"<details><summary>All numbers</summary>{_element_table(rows)}</details>"
    return f"{tabs('elements', tables)}<p class='note'>{note}</p>{numbers}"


def _rows_of(errors: Errors) -> list[ErrorRow]:
    rows = errors.rows
    return rows[:1] if len(rows) == 2 else rows  # with a single dimensionality, the row "all" is the same


def _texts(row: ErrorRow) -> list[str]:
    energies = (row.energy_mae, row.energy_rmse, row.energy_mae_e0)
    forces = (row.forces_mae, row.forces_rmse, row.forces_mae_zero)
    stresses = (row.stress_mae, row.stress_rmse, row.stress_mae_zero)
    return [
        f"{row.n_frames:,}",
        *(_text(value, ".1f") for value in energies),
        *(_text(value, ".3f") for value in forces),
        *(_text(value, ".2f") for value in stresses),
    ]


def _text(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "-"


def _element_table(rows: Sequence[ElementRow]) -> str:
    columns = ("", "frames", "atoms", "E MAE\nmeV/atom", "E offset\nmeV", "F MAE\neV/Å", "F = 0\neV/Å")
    cells = [
        (
            row.element,
            f"{row.n_frames:,}",
            f"{row.n_atoms:,}",
            _text(row.energy_mae, ".1f"),
            _text(row.energy_offset, "+.1f"),
            _text(row.forces_mae, ".3f"),
            _text(row.forces_mae_zero, ".3f"),
        )
        for row in rows
    ]
    return table("By element", columns, cells)


def _points(split: SplitErrors, quantity: str) -> Series:
    pair: Pair = getattr(split.comparison, quantity)
    is_known = ~np.isnan(pair.labels)
    frames = _frames_of(split.comparison, quantity)[is_known]
    names = [split.items[frame].material_id for frame in frames]
    return points(split.name, *pair.known(), names)


def _frames_of(comparison: Comparison, quantity: str) -> Int[np.ndarray, "..."]:
    """Index of the frame of each number of a quantity, in the quantity's shape."""
    frames = comparison.frame_of_atom if quantity == "forces" else np.arange(comparison.n_frames)
    shape = getattr(comparison, quantity).labels.shape
    return np.broadcast_to(frames.reshape(-1, *[1] * (len(shape) - 1)), shape)
