"""Sub-sampling of paths, on paths made by hand."""

import math

import numpy as np
import pytest

from mlip.data.subsample import kept_steps, subsample
from mlip.errors import MlipError


def test_a_step_is_kept_when_its_energy_is_a_cutoff_away_from_the_last_kept_one():
    energies = [0.0, -0.004, -0.008, -0.012, -0.013, -0.030, -0.031, -0.032]
    # first, one third (index 2), then |E - E(2)| >= 0.01 at index 5, last
    assert kept_steps(energies, 0.01).tolist() == [0, 2, 5, 7]


def test_differences_are_to_the_last_kept_step_and_not_to_the_step_before():
    energies = np.linspace(0.0, -0.11, 12)  # 0.01 a step: each alone is below the cutoff
    assert kept_steps(energies, 0.0299).tolist() == [0, 3, 4, 7, 10, 11]  # 4 = 12 // 3 starts the count anew


def test_an_oscillating_path_is_kept_where_it_swings_by_more_than_the_cutoff():
    energies = [0.0, 0.1, 0.0, 0.1, 0.0, 0.02, 0.0, 0.02, 0.0]
    assert kept_steps(energies, 0.05).tolist() == [0, 1, 2, 3, 4, 8]


def test_a_rise_in_energy_counts_as_a_fall_does():
    energies = [0.0, 0.0, 0.0, 0.5, 0.0, 0.0]
    assert kept_steps(energies, 0.5).tolist() == [0, 2, 3, 4, 5]


def test_a_difference_of_exactly_the_cutoff_is_enough():
    assert kept_steps([0.0, 0.0, 0.0, 0.0, -0.25, 0.0, 0.0], 0.25).tolist() == [0, 2, 4, 5, 6]


def test_a_cutoff_of_zero_keeps_every_step():
    assert kept_steps(np.zeros(7), 0.0).tolist() == list(range(7))


@pytest.mark.parametrize(
    ("n", "kept"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 1, 3]), (9, [0, 3, 8]), (100, [0, 33, 99])]
)
def test_an_infinite_cutoff_keeps_first_one_third_and_last(n, kept):
    assert kept_steps(np.linspace(0, -50, n), math.inf).tolist() == kept


@pytest.mark.parametrize("cutoff", [0.0, 0.01, math.inf])
def test_one_and_two_steps_are_kept_whatever_the_cutoff(cutoff):
    assert kept_steps([-1.0], cutoff).tolist() == [0]
    assert kept_steps([-1.0, -1.0], cutoff).tolist() == [0, 1]


def test_an_unknown_energy_is_kept_by_a_finite_cutoff():
    energies = [0.0, 0.0, 0.0, math.nan, 0.0, 0.0, 0.0]
    assert 3 in kept_steps(energies, 0.1)
    assert kept_steps(energies, math.inf).tolist() == [0, 2, 6]


def test_the_cutoff_is_per_cell_or_per_atom(make_trajectory):
    trajectory = make_trajectory(energies=[0.0, 0.0, 0.0, -0.15, -0.15, -0.15])  # 2 atoms
    steps = lambda t: [frame.ionic_step for frame in t.frames]  # noqa: E731
    assert steps(subsample(trajectory, 0.1, per_atom=False)) == [0, 2, 3, 5]
    assert steps(subsample(trajectory, 0.1, per_atom=True)) == [0, 2, 5]


@pytest.mark.parametrize("cutoff", [-0.1, math.nan])
def test_a_cutoff_that_is_no_distance_is_refused(cutoff):
    with pytest.raises(MlipError, match="cutoff"):
        kept_steps([0.0], cutoff)
