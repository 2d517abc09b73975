"""The parts of a run's report that its potential's predictions give: errors beside trivial predictors, parity plots,
histograms, and the errors of each element on the periodic table.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from mlip.evaluation.comparison import Comparison, Pair
from mlip.evaluation.element_errors import ElementRow
from mlip.evaluation.frame_errors import ErrorRow, Errors
from mlip.evaluation.split_errors import SplitErrors
from mlip.report.axis import Axis
from mlip.report.chart import Series, chart, side_by_side
from mlip.report.periodic_table import periodic_table
from mlip.report.table import table
from mlip.report.tabs import tabs
from mlip.training.report.record_sections import COLOURS

_POINTS = 1500  # of a parity plot, of each split
_BINS = 60
_DRAWN = 0.99  # share of the errors that a histogram shows: its tails would flatten the rest
_PARITY = {
    "energy": ("Energy", "energy without E0, eV/atom"),
    "forces": ("Forces", "force component, eV/Å"),
    "stress": ("Stress", "stress component, GPa"),
}
_ERRORS = {
    "energy": ("energy error, meV/atom", 1000),
    "forces": ("error of a force component, meV/Å", 1000),
    "stress": ("error of a stress component, GPa", 1),
}


def error_table(splits: Sequence[SplitErrors]) -> str:
    """Mean errors of each split and dimensionality, beside those of E0 only, F = 0 and S = 0."""
    columns = (
        "",
        "frames",
        "E MAE\nmeV/atom",
        "E RMSE\nmeV/atom",
        "E0 only\nmeV/atom",
        "F MAE\nmeV/Å",
        "F RMSE\nmeV/Å",
        "F = 0\nmeV/Å",
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


def parity_plots(splits: Sequence[SplitErrors]) -> str:
    """Predictions against labels."""
    charts = []
    for quantity, (caption, label) in _PARITY.items():
        series = [one for split in splits if len((one := _points(split, quantity)).x)]
        if series:
            both = [values for one in series for values in (one.x, one.y)]
            x, y = (Axis.spanning(f"{whose} {label}", both) for whose in ("reference", "predicted"))
            charts.append(chart(series, x, y, caption, is_parity=True))
    note = f"At most {_POINTS:,} points of each split are drawn, evenly chosen. Point at one to see whose it is."
    return f"{side_by_side(charts)}<p class='note'>{note}</p>"


def histograms(splits: Sequence[SplitErrors]) -> str:
    """How errors are distributed: potential minus label."""
    charts = []
    for quantity, (label, factor) in _ERRORS.items():
        errors = {split.name: factor * getattr(split.comparison, quantity).known().errors for split in splits}
        errors = {name: values for name, values in errors.items() if values.size}
        if errors:
            charts.append(_histogram(errors, label, _PARITY[quantity][0]))
    note = f"Predicted minus reference. The {1 - _DRAWN:.0%} with the largest errors lie beyond the axis."
    return f"{side_by_side(charts)}<p class='note'>{note}</p>"


def elements_section(splits: Sequence[SplitErrors]) -> str:
    """The periodic table by several errors, and all numbers as a table."""
    together = Errors()
    for split in splits:
        together.add(split.comparison)
    rows = together.elements
    notes = {row.element: f"{row.n_atoms:,} atoms in {row.n_frames:,} frames" for row in rows}
    panels = {
        "forces": ({row.element: 1000 * row.forces_mae for row in rows}, "meV/Å", ".0f"),
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
    return rows[:1] if len(rows) == 2 else rows  # one dimensionality, and "all" says it again


def _texts(row: ErrorRow) -> list[str]:
    energies = (row.energy_mae, row.energy_rmse, row.energy_mae_e0)
    forces = (1000 * value for value in (row.forces_mae, row.forces_rmse, row.forces_mae_zero))
    stresses = (row.stress_mae, row.stress_rmse, row.stress_mae_zero)
    return [
        f"{row.n_frames:,}",
        *(_text(value, ".1f") for value in (*energies, *forces)),
        *(_text(value, ".2f") for value in stresses),
    ]


def _text(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "-"


def _element_table(rows: Sequence[ElementRow]) -> str:
    columns = ("", "frames", "atoms", "E MAE\nmeV/atom", "E offset\nmeV", "F MAE\nmeV/Å", "F = 0\nmeV/Å")
    cells = [
        (
            row.element,
            f"{row.n_frames:,}",
            f"{row.n_atoms:,}",
            _text(row.energy_mae, ".1f"),
            _text(row.energy_offset, "+.1f"),
            _text(1000 * row.forces_mae, ".1f"),
            _text(1000 * row.forces_mae_zero, ".1f"),
        )
        for row in rows
    ]
    return table("By element", columns, cells)


def _points(split: SplitErrors, quantity: str) -> Series:
    pair: Pair = getattr(split.comparison, quantity)
    is_known = ~np.isnan(pair.labels)
    frames = _frames_of(split.comparison, quantity)[is_known]
    labels, predicted = pair.known()
    chosen = np.linspace(0, len(labels) - 1, min(len(labels), _POINTS)).round().astype(int)
    notes = [split.items[frame].material_id for frame in frames[chosen]]
    return Series(split.name, labels[chosen], predicted[chosen], "dots", COLOURS[split.name], notes)


def _frames_of(comparison: Comparison, quantity: str) -> Int[np.ndarray, "..."]:
    """Which frame each number of a quantity belongs to, in the quantity's shape."""
    frames = comparison.frame_of_atom if quantity == "forces" else np.arange(comparison.n_frames)
    shape = getattr(comparison, quantity).labels.shape
    return np.broadcast_to(frames.reshape(-1, *[1] * (len(shape) - 1)), shape)


def _histogram(errors: dict[str, Float[np.ndarray, " k"]], label: str, caption: str) -> str:
    width = float(np.quantile(np.abs(np.concatenate(list(errors.values()))), _DRAWN)) or 1.0
    edges = np.linspace(-width, width, _BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    series = [
        Series(name, middles, 100 * np.histogram(values, edges)[0] / len(values), "bars", COLOURS[name])
        for name, values in errors.items()
    ]
    highest = max(one.y.max() for one in series)
    return chart(series, Axis(label, -width, width), Axis("share of all, %", 0.0, 1.05 * highest or 1.0), caption)
