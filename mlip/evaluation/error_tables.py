"""Tables of errors for printing: with trivial predictors, other measures, MatterSim's norms, and by element."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from mlip.evaluation.element_errors import ElementRow
from mlip.evaluation.frame_errors import ErrorRow, Errors
from mlip.terminal import terminal_table

WORST_ELEMENTS = 10
"""Number of elements printed unless all are requested."""


def error_tables(errors: Errors, title: str, *, all_elements: bool = False) -> list[Table]:
    """Tables of errors. The first one includes trivial predictors, and reasons for frames left out in its caption. The
    captions state the number of frames with each label, unless all frames have all labels."""
    rows = errors.rows
    if len(rows) == 2:  # with a single dimensionality, the row "all" is the same
        rows = rows[:1]
    main = _trivial_predictors(rows)
    main.title = title + (" (surrogate labels)" if errors.is_surrogate else "")
    left_out = [f"{count} left out: {why}" for why, count in errors.left_out.items()]
    main.caption = "; ".join([*([errors.functional_note] if errors.functional_note else []), *left_out])
    tables = [main, _other_measures(rows), _mattersim_norms(rows), _element_table(errors.elements, all_elements)]
    if labels := _labels(rows):
        for table in tables:
            table.caption = "; ".join([str(table.caption), labels] if table.caption else [labels])
    return tables


def _labels(rows: Sequence[ErrorRow]) -> str | None:
    """Number of frames with each label, as text; None if all frames have all labels."""
    if all(row.n_frames == row.n_energies == row.n_forces == row.n_stresses for row in rows):
        return None
    told = (
        f"{row.dimensionality}: of {row.n_frames:,} frames {row.n_energies:,} with energy, {row.n_forces:,} with "
        f"forces, {row.n_stresses:,} with stress"
        for row in rows
    )
    return f"labels: {'; '.join(told)}"


def _trivial_predictors(rows: Iterable[ErrorRow]) -> Table:
    table = _table(
        "",
        "frames",
        "E MAE\nmeV/atom",
        "E RMSE\nmeV/atom",
        "E0 only\nmeV/atom",
        "F MAE\neV/Å",
        "F = 0\neV/Å",
        "S MAE\nGPa",
        "S = 0\nGPa",
    )
    for row in rows:
        table.add_row(
            row.dimensionality,
            f"{row.n_frames:,}",
            *_texts(1, row.energy_mae, row.energy_rmse, row.energy_mae_e0),
            *_texts(3, row.forces_mae, row.forces_mae_zero),
            *_texts(2, row.stress_mae, row.stress_mae_zero),
        )
    return table


def _other_measures(rows: Sequence[ErrorRow]) -> Table:
    table = _table(
        "",
        "E mean\nmeV/atom",
        "E median\nmeV/atom",
        "offsets\nmeV/atom",
        "F RMSE\neV/Å",
        "by frame\neV/Å",
        "S median\nGPa",
        "S RMSE\nGPa",
        title="In other measures",
        caption="mean: signed, potential minus label; offsets: MAE when a constant for each element has been fitted to "
        "the errors; by frame: mean of the frames' MAE" + _softness(rows),
    )
    for row in rows:
        table.add_row(
            row.dimensionality,
            *_texts(1, row.energy_mean, row.energy_median, row.energy_mae_offset),
            *_texts(3, row.forces_rmse, row.forces_mae_by_frame),
            *_texts(2, row.stress_median, row.stress_rmse),
        )
    return table


def _softness(rows: Iterable[ErrorRow]) -> str:
    """Slopes of predicted against labeled forces, as text; empty without forces."""
    told = []
    for row in rows:
        if row.forces_slope == row.forces_slope:
            knows_interval = row.forces_slope_low == row.forces_slope_low
            interval = f" ({row.forces_slope_low:.3f} to {row.forces_slope_high:.3f})" if knows_interval else ""
            told.append(f"{row.dimensionality} {row.forces_slope:.3f}{interval}")
    if not told:
        return ""
    return f"; slope of predicted against labeled forces, below 1 if too soft (95 % over materials): {', '.join(told)}"


def _mattersim_norms(rows: Iterable[ErrorRow]) -> Table:
    table = _table(
        "",
        "E\neV/atom",
        "E0 only\neV/atom",
        "F\neV/Å",
        "F = 0\neV/Å",
        "S\nGPa",
        "S = 0\nGPa",
        title="In the norms of MatterSim's model card",
        caption="means over frames of |ΔE| an atom, of the mean ‖ΔF‖ of atoms, of ‖ΔS‖ of the tensor (Frobenius)",
    )
    for row in rows:
        table.add_row(
            row.dimensionality,
            *_texts(3, row.energy_mae / 1000, row.energy_mae_e0 / 1000),
            *_texts(3, row.forces_norm, row.forces_norm_zero, row.stress_norm, row.stress_norm_zero),
        )
    return table


def _element_table(rows: Sequence[ElementRow], all_elements: bool) -> Table:
    """Table by atomic number, or of the elements with the largest force errors (energy errors without forces)."""
    title = "By element"
    if len(rows) > WORST_ELEMENTS and not all_elements:
        title = f"By element: the {WORST_ELEMENTS} of {len(rows)} with the largest force errors (all: --elements)"
        rows = sorted(rows, key=_badness, reverse=True)[:WORST_ELEMENTS]
    table = _table(
        "",
        "frames",
        "atoms",
        "E MAE\nmeV/atom",
        "E offset\nmeV/atom",
        "F MAE\neV/Å",
        "F = 0\neV/Å",
        title=title,
        caption="E MAE: of the frames that contain it; E offset: the constant fitted to the errors, potential minus "
        "label",
    )
    for row in rows:
        table.add_row(
            row.element,
            f"{row.n_frames:,}",
            f"{row.n_atoms:,}",
            *_texts(1, row.energy_mae, row.energy_offset),
            *_texts(3, row.forces_mae, row.forces_mae_zero),
        )
    return table


def _badness(row: ElementRow) -> tuple[float, float]:
    """Sort key: force error, then energy error; NaN (no label) comes last."""
    return tuple(-1.0 if value != value else value for value in (row.forces_mae, row.energy_mae))


def _table(*headings: str, title: str = "", caption: str = "") -> Table:
    return terminal_table(headings, title=title, caption=caption, pad_edge=False)  # fits into eighty columns


def _texts(digits: int, *values: float) -> list[str]:
    return ["-" if value != value else f"{value:.{digits}f}" for value in values]
