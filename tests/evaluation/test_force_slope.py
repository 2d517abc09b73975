"""The slope of predicted against labeled forces tells how soft a potential is, with an interval over materials."""

import numpy as np
import pytest

from mlip.evaluation.comparison import Comparison, Pair
from mlip.evaluation.force_slope import ForceSlope


def comparison(labels, predicted, n_atoms, materials) -> Comparison:
    k = len(n_atoms)
    nothing = Pair(np.full(k, np.nan), np.zeros(k))
    return Comparison(
        material_id=np.array(materials),
        functional=np.full(k, "PBE"),
        dimensionality=np.full(k, 3),
        n_atoms=np.array(n_atoms),
        numbers=np.full(sum(n_atoms), 29),
        energy=nothing,
        forces=Pair(np.asarray(labels, float), np.asarray(predicted, float)),
        stress=Pair(np.full((k, 6), np.nan), np.zeros((k, 6))),
    )


def random_world(n_materials: int, rng, softness=0.85, spread=0.1):
    """Each material has a softness of its own, which all of its frames share."""
    n_frames, n_atoms = 4, 3
    labels = rng.normal(size=(n_materials, n_frames, n_atoms, 3))
    own = rng.normal(softness, spread, size=(n_materials, 1, 1, 1))
    predicted = own * labels + rng.normal(0, 0.02, labels.shape)
    materials = np.repeat([f"m{k}" for k in range(n_materials)], n_frames)
    flat = labels.reshape(-1, 3), predicted.reshape(-1, 3)
    return comparison(*flat, [n_atoms] * (n_materials * n_frames), materials)


def slope_of(*comparisons: Comparison):
    sums = ForceSlope()
    for one in comparisons:
        sums.add(one)
    return sums.slope


def test_a_common_factor_is_the_slope_and_its_interval_is_a_point():
    labels = np.random.default_rng(0).normal(size=(12, 3))
    found = slope_of(comparison(labels, 0.8 * labels, [2, 4, 6], "abc"))
    assert found == pytest.approx((0.8, 0.8, 0.8))


def test_it_is_least_squares_through_zero():
    rng = np.random.default_rng(1)
    labels, predicted = rng.normal(size=(2, 20, 3))
    expected = np.linalg.lstsq(labels.reshape(-1, 1), predicted.ravel(), rcond=None)[0].item()
    assert slope_of(comparison(labels, predicted, [5] * 4, "abcd")).value == pytest.approx(expected)


def test_components_without_a_label_are_left_out():
    labels = np.random.default_rng(2).normal(size=(6, 3))
    predicted = 0.9 * labels
    labels[1] = np.nan
    labels[3, 0] = np.nan
    predicted[3, 0] = 1e3
    assert slope_of(comparison(labels, predicted, [3, 3], "ab")).value == pytest.approx(0.9)


def test_the_interval_is_the_bootstraps_over_materials():
    """The frames of a material are no independent witnesses: 4 frames of each would make it half as wide."""
    rng = np.random.default_rng(3)
    world = random_world(60, rng)
    found = slope_of(world)
    by_material = {m: world.at(world.material_id == m) for m in np.unique(world.material_id)}
    sums = [
        (np.nansum(w.forces.labels * w.forces.predicted), np.nansum(w.forces.labels**2)) for w in by_material.values()
    ]
    drawn = rng.integers(60, size=(2000, 60))
    totals = np.array(sums)[drawn].sum(axis=1)
    low, high = np.percentile(totals[:, 0] / totals[:, 1], [2.5, 97.5])
    assert found.high - found.low == pytest.approx(high - low, rel=0.12)
    assert found.low == pytest.approx(low, abs=0.005)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(4)
    found = [slope_of(random_world(40, rng)) for _ in range(300)]
    covered = np.mean([one.low < 0.85 < one.high for one in found])
    assert 0.9 < covered < 0.98


def test_parts_add_up_in_any_order():
    world = random_world(10, np.random.default_rng(5))
    first = world.material_id < "m5"
    merged = ForceSlope()
    for mask in (~first, first):
        part = ForceSlope()
        part.add(world.at(mask))
        merged.merge(part)
    assert merged.slope == pytest.approx(slope_of(world))


def test_nothing_is_told_where_nothing_is_known():
    zero = comparison(np.zeros((2, 3)), np.ones((2, 3)), [2], ["a"])
    assert np.isnan(slope_of(zero)).all()
    assert np.isnan(ForceSlope().slope).all()
    one = comparison(np.ones((2, 3)), np.ones((2, 3)), [2], ["a"])
    value, low, high = slope_of(one)
    assert value == 1
    assert np.isnan([low, high]).all()
