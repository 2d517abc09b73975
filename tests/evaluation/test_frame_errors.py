"""Each measure of error equals a few lines of numpy that follow its definition, on frames of all sizes and gaps."""

from dataclasses import replace

import numpy as np
import pytest

from mlip.data import Frame
from mlip.evaluation.comparison import LabeledFrame, compare
from mlip.evaluation.frame_errors import Errors
from mlip.units import EV_PER_A3_IN_GPA, tensor_from_voigt

E0 = np.linspace(-1.0, -9.0, 119)
N_FRAMES = 40


def labels_and_predictions(seed: int) -> tuple[list[LabeledFrame], list[dict]]:
    """1 to 9 atoms of four elements; 2D and 3D in turn."""
    rng = np.random.default_rng(seed)
    items, predictions = [], []
    for index in range(N_FRAMES):
        n = int(rng.integers(1, 10))
        numbers = rng.choice([8, 22, 26, 57], n).astype(np.int16)
        frame = Frame(
            numbers,
            positions=np.zeros((n, 3)),
            cell=np.eye(3),
            pbc=np.ones(3, bool),
            energy=E0[numbers].sum() + rng.normal(),
            forces=rng.normal(size=(n, 3)),
            stress=rng.normal(0, 0.01, 6),
        )
        items.append(LabeledFrame(frame, f"m{index}", 2 + index % 2, "PBE"))
        predictions.append(
            {
                "energy": frame.energy + rng.normal(0.1, 0.2),
                "forces": frame.forces + rng.laplace(0, 0.3, (n, 3)),
                "stress": frame.stress + rng.laplace(0, 0.004, 6),
            }
        )
    return items, predictions


ITEMS, PREDICTIONS = labels_and_predictions(seed=5)


def errors_of(items, predictions, n_parts: int = 1) -> Errors:
    errors = Errors()
    for part in np.array_split(np.arange(len(items)), n_parts):
        errors.add(compare([items[k] for k in part], [predictions[k] for k in part], E0))
    return errors


def errors_by_hand(items, predictions):
    """Of the energies (k,) eV/atom, of the forces, a (n, 3) a frame, of the stress tensors (k, 3, 3) GPa."""
    energies, forces, stress = [], [], []
    for (frame, *_), predicted in zip(items, predictions, strict=True):
        energies.append((predicted["energy"] - frame.energy) / len(frame))
        forces.append(predicted["forces"] - frame.forces)
        stress.append(tensor_from_voigt(predicted["stress"] - frame.stress) * EV_PER_A3_IN_GPA)
    return np.array(energies), forces, np.array(stress)


def test_means_and_medians():
    row = errors_of(ITEMS, PREDICTIONS).rows[-1]
    energies, forces, stress = errors_by_hand(ITEMS, PREDICTIONS)
    components = np.concatenate(forces)
    voigt = stress[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    assert row.n_frames == N_FRAMES
    assert row.energy_mae == pytest.approx(1000 * np.abs(energies).mean())
    assert row.energy_rmse == pytest.approx(1000 * np.sqrt((energies**2).mean()))
    assert row.energy_median == pytest.approx(1000 * np.median(np.abs(energies)))
    assert row.energy_mean == pytest.approx(1000 * energies.mean())
    assert row.forces_mae == pytest.approx(np.abs(components).mean())
    assert row.forces_rmse == pytest.approx(np.sqrt((components**2).mean()))
    assert row.forces_mae_by_frame == pytest.approx(np.mean([np.abs(f).mean() for f in forces]))
    assert row.stress_mae == pytest.approx(np.abs(voigt).mean())
    assert row.stress_rmse == pytest.approx(np.sqrt((voigt**2).mean()))
    assert row.stress_median == pytest.approx(np.median(np.abs(voigt)), rel=1e-6)  # kept in float32


def test_norms_of_the_model_card_of_mattersim():
    row = errors_of(ITEMS, PREDICTIONS).rows[-1]
    _, forces, stress = errors_by_hand(ITEMS, PREDICTIONS)
    assert row.forces_norm == pytest.approx(np.mean([np.linalg.norm(f, axis=1).mean() for f in forces]))
    assert row.stress_norm == pytest.approx(np.mean([np.linalg.norm(s) for s in stress]))


def test_trivial_predictors_are_measured_like_the_potential():
    row = errors_of(ITEMS, PREDICTIONS).rows[-1]
    nothing = [
        {"energy": E0[frame.numbers].sum(), "forces": 0 * frame.forces, "stress": np.zeros(6)} for frame, *_ in ITEMS
    ]
    trivial = errors_of(ITEMS, nothing).rows[-1]
    assert row.energy_mae_e0 == pytest.approx(trivial.energy_mae)
    assert (row.forces_mae_zero, row.forces_norm_zero) == pytest.approx((trivial.forces_mae, trivial.forces_norm))
    assert (row.stress_mae_zero, row.stress_norm_zero) == pytest.approx((trivial.stress_mae, trivial.stress_norm))


def test_added_in_parts_is_added_at_once():
    at_once, in_parts = errors_of(ITEMS, PREDICTIONS), errors_of(ITEMS, PREDICTIONS, n_parts=7)
    for one, other in zip(at_once.rows + at_once.elements, in_parts.rows + in_parts.elements, strict=True):
        assert vars(one) == pytest.approx(vars(other))


def test_a_row_of_a_dimensionality_is_of_its_frames_alone():
    both = errors_of(ITEMS, PREDICTIONS)
    layers = errors_of(ITEMS[::2], PREDICTIONS[::2])
    assert vars(both.rows[0]) == pytest.approx(vars(layers.rows[0]))


def test_a_missing_label_leaves_out_what_needs_it_and_nothing_else():
    frame, *rest = ITEMS[0]
    forces, stress = frame.forces.copy(), frame.stress.copy()
    forces[0, 1] = stress[3] = np.nan
    partial = LabeledFrame(replace(frame, energy=np.nan, forces=forces, stress=stress), *rest)
    row = errors_of([partial], PREDICTIONS[:1]).rows[-1]
    _, (force_errors,), (stress_error,) = errors_by_hand(ITEMS[:1], PREDICTIONS[:1])
    assert np.isnan([row.energy_mae, row.energy_median, row.energy_mae_offset, row.stress_norm]).all()
    assert row.forces_mae == pytest.approx(np.abs(force_errors[~np.isnan(forces)]).mean())
    assert row.forces_norm == pytest.approx(np.linalg.norm(force_errors[1:], axis=1).mean())
    known = [stress_error[0, 0], stress_error[1, 1], stress_error[2, 2], stress_error[0, 2], stress_error[0, 1]]
    assert row.stress_mae == pytest.approx(np.abs(known).mean())


def test_parity_points_are_the_known_labels():
    points = errors_of(ITEMS, PREDICTIONS, n_parts=3).points
    assert sum(len(pair.labels) for pair in points["energy"]) == N_FRAMES
    assert sum(len(pair.labels) for pair in points["forces"]) == 3 * sum(len(frame) for frame, *_ in ITEMS)
