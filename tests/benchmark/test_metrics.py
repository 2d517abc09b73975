"""Failed, outlying and averaged: each relaxation is counted where the paper counts it."""

import numpy as np
import pytest

from mlip.benchmark.intervals import intervals_95, wilson
from mlip.benchmark.metrics import energy_distribution, energy_errors, volume_errors

NAN = np.nan


def test_volume_errors_by_hand():
    reference = np.array([10.0, 20.0, 40.0, 10.0])
    predicted = np.array([11.0, 18.0, NAN, 21.0])  # +10 %, -10 %, failed, an outlier
    errors = volume_errors(predicted, reference, np.array([1, 2, 4, 1]))
    assert (errors.n, errors.n_averaged) == (4, 2)
    assert errors.failed_percent == 25
    assert errors.outlier_percent == pytest.approx(100 / 3)
    assert errors.mpe == pytest.approx(0)
    assert errors.mape == pytest.approx(10)
    assert errors.mae == pytest.approx(1)


def test_energy_errors_by_hand_with_potential_minus_reference_as_the_signed_mean():
    reference = np.array([-10.0, -20.0, -4.0, NAN])
    predicted = np.array([-10.5, -22.0, -9.0, -1.0])  # 0.5 and 1 eV/atom too low, an outlier, no reference
    errors = energy_errors(predicted, reference, np.array([1, 2, 1, 1]))
    assert errors.n == 3
    assert errors.failed_percent == 0
    assert errors.outlier_percent == pytest.approx(100 / 3)
    assert errors.n_averaged == 2  # without the outlier
    assert errors.mean_error == pytest.approx(-0.75)
    assert errors.mpe == pytest.approx(7.5)  # shares of negative energies: too low by 5 % and 10 %
    assert errors.mae == pytest.approx(0.75)


def test_too_large_a_volume_is_a_positive_error_in_every_measure():
    errors = volume_errors(np.array([11.0, 12.0]), np.array([10.0, 10.0]), np.ones(2))
    assert errors.mean_error == pytest.approx(1.5)
    assert errors.mpe == pytest.approx(15)


def test_a_volume_that_doubles_is_no_outlier_and_one_beyond_is():
    errors = volume_errors(np.array([20.0, 20.1]), np.array([10.0, 10.0]), np.ones(2))
    assert errors.outlier_percent == 50
    assert errors.mape == pytest.approx(100)


def test_nothing_left_to_average_is_none_in_json():
    record = volume_errors(np.array([NAN]), np.array([10.0]), np.ones(1)).as_record()
    assert record["failed_percent"] == 100
    assert record["mape"] is None


def test_the_distribution_of_energy_errors_by_hand():
    reference = np.zeros(6)
    predicted = np.array([0.1, -0.1, 0.2, 0.2, 2.0, NAN])  # one outlier, one failure
    errors = energy_distribution(predicted, reference, np.ones(6))
    assert (errors.n, errors.n_averaged) == (6, 5)
    assert errors.failed_percent == pytest.approx(100 / 6)
    assert errors.outlier_percent == pytest.approx(20)
    assert errors.mae == pytest.approx(0.52)  # outliers count here
    assert errors.rmse == pytest.approx(np.sqrt(4.1 / 5))
    assert errors.rmse_without_outliers == pytest.approx(np.sqrt(0.1 / 4))
    assert errors.median == pytest.approx(0.2)
    assert errors.p90 == pytest.approx(np.quantile([0.1, 0.1, 0.2, 0.2, 2.0], 0.9))


def test_the_bootstrap_interval_of_a_mean_is_that_of_the_normal_distribution():
    generator = np.random.default_rng(1)
    reference = np.full(4000, 10.0)
    predicted = reference + generator.normal(0.3, 1.0, 4000)
    errors, intervals = (
        f(predicted, reference, np.ones(4000))
        for f in (volume_errors, lambda *columns: intervals_95(volume_errors, *columns))
    )
    low, high = intervals["mean_error"]
    half = 1.96 * np.std(predicted) / np.sqrt(4000)
    # percentiles of 1000 samples scatter by a few per cent of the width
    assert low == pytest.approx(errors.mean_error - half, abs=0.15 * half)
    assert high == pytest.approx(errors.mean_error + half, abs=0.15 * half)


def test_intervals_are_the_same_each_time():
    columns = np.array([11.0, 18.0, NAN, 21.0]), np.array([10.0, 20.0, 40.0, 10.0]), np.ones(4)
    assert intervals_95(volume_errors, *columns) == intervals_95(volume_errors, *columns)


def test_no_failure_among_a_thousand_does_not_mean_that_none_is_possible():
    low, high = wilson(0.0, 1000)
    assert low == 0
    assert high == pytest.approx(0.383, abs=0.001)  # textbook value, z^2 / (n + z^2)


def test_no_interval_of_a_share_begins_at_minus_nought():
    bounds = np.array([wilson(share, n) for share in (0.0, 100.0) for n in range(1, 2000)])
    assert not np.signbit(bounds).any(), "printed as -0.00"


def test_intervals_of_nothing_are_unknown():
    nothing = np.array([])
    assert all(np.isnan(interval.low) for interval in intervals_95(energy_errors, nothing, nothing, nothing).values())


def test_the_originals_records_give_the_numbers_known_for_it(shared):
    import json

    path = shared / "goldens/accuracy/relax_m3gnet_original_alexandria-random-1k.jsonl"
    records = [json.loads(line) for line in path.open()]
    energy, dft_energy, volume, dft_volume, n_atoms = (
        np.array([r.get(key, NAN) for r in records]) for key in ("energy", "e_dft", "volume", "v_dft", "n")
    )
    # all 1000 have MAPE 4.39 (3.98 to 4.84), MAE 0.136 (0.127 to 0.146) and ME -0.109; this is every second one
    volumes = volume_errors(volume, dft_volume, n_atoms)
    energies = energy_errors(energy, dft_energy, n_atoms)
    assert volumes.failed_percent == energies.failed_percent == pytest.approx(0.4)
    assert volumes.mape == pytest.approx(4.39, abs=0.65)
    assert energies.mae == pytest.approx(0.136, abs=0.015)
    assert energies.mean_error == pytest.approx(-0.109, abs=0.015)
    assert energies.mpe == pytest.approx(2.6, abs=0.3)
