"""What is printed: all measures for a few rows, the worst elements unless all are asked for."""

import numpy as np
import pytest
from rich.console import Console

from mlip.data import Frame
from mlip.evaluation.comparison import LabeledFrame, compare
from mlip.evaluation.error_tables import WORST_ELEMENTS, error_tables
from mlip.evaluation.frame_errors import Errors

N_ELEMENTS = 14


def errors_that_grow_with_the_atomic_number(dimensionalities=(3,), with_forces: bool = True) -> Errors:
    """A frame of one atom an element: force errors Z eV/A, energy errors -Z eV."""
    items, predictions = [], []
    for z in range(1, N_ELEMENTS + 1):
        forces = np.zeros((1, 3)) if with_forces else None
        frame = Frame(np.array([z]), np.zeros((1, 3)), np.eye(3), np.ones(3, bool), 0.0, forces)
        items.append(LabeledFrame(frame, f"m{z}", dimensionalities[z % len(dimensionalities)], "PBE"))
        predictions.append({"energy": -z, "forces": np.full((1, 3), float(z)), "stress": np.zeros(6)})
    errors = Errors()
    errors.add(compare(items, predictions, np.zeros(119)))
    return errors


def column(table, index: int) -> list[str]:
    return list(table.columns[index].cells)


@pytest.mark.parametrize("with_forces", [True, False], ids=["by forces", "by energies where no forces are known"])
def test_the_worst_elements_stand_first(with_forces):
    *_, elements = error_tables(errors_that_grow_with_the_atomic_number(with_forces=with_forces), "title")
    assert len(column(elements, 0)) == WORST_ELEMENTS
    assert column(elements, 0)[:3] == ["Si", "Al", "Mg"]


def test_all_elements_stand_in_order_of_atomic_number():
    *_, elements = error_tables(errors_that_grow_with_the_atomic_number(), "title", all_elements=True)
    assert len(column(elements, 0)) == N_ELEMENTS
    assert column(elements, 0)[:3] == ["H", "He", "Li"]


def test_one_dimensionality_is_not_said_twice():
    for table in error_tables(errors_that_grow_with_the_atomic_number((3,)), "title")[:-1]:
        assert column(table, 0) == ["3D"]
    for table in error_tables(errors_that_grow_with_the_atomic_number((2, 3)), "title")[:-1]:
        assert column(table, 0) == ["2D", "3D", "all"]


def test_softness_is_told_in_a_line_with_its_interval_and_in_json():
    """Predictions are the labels of odd elements, and nine tenths of those of even ones."""
    items, predictions = [], []
    for z in range(1, 21):
        forces = np.random.default_rng(z).normal(size=(2, 3))
        frame = Frame(np.full(2, z), np.eye(2, 3), 3 * np.eye(3), np.ones(3, bool), 0.0, forces)
        items.append(LabeledFrame(frame, f"m{z}", 3, "PBE"))
        predictions.append({"energy": 0.0, "forces": forces * (1.0 if z % 2 else 0.9), "stress": np.zeros(6)})
    errors = Errors()
    errors.add(compare(items, predictions, np.zeros(119)))
    (row, _) = errors.as_json()["rows"]
    assert 0.9 < row["forces_slope_low"] < row["forces_slope"] < row["forces_slope_high"] < 1
    _, others, *_ = error_tables(errors, "title")
    interval = f"{row['forces_slope_low']:.3f} to {row['forces_slope_high']:.3f}"
    assert f"below 1 if too soft (95 % over materials): 3D {row['forces_slope']:.3f} ({interval})" in others.caption


def test_softness_is_not_told_of_structures_without_forces():
    for errors in (
        errors_that_grow_with_the_atomic_number(),
        errors_that_grow_with_the_atomic_number(with_forces=False),
    ):
        assert "slope" not in error_tables(errors, "title")[1].caption
        assert errors.as_json()["rows"][0]["forces_slope"] is None


def test_tables_fit_a_terminal_of_eighty_columns():
    console = Console(width=300)
    for table in error_tables(errors_that_grow_with_the_atomic_number((2, 3)), "title"):
        assert console.measure(table).maximum <= 80
