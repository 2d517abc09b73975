"""Schedules start, peak and end where the recipe says; the average forgets its random start."""

import jax.numpy as jnp
import numpy as np
import pytest

from mlip.training.optimizer import learning_rate_schedule, make_optimizer, update_average
from mlip.training.recipe import TrainRecipe


def recipe(**changes) -> TrainRecipe:
    return TrainRecipe(**{"epochs": 1, "batch_size": 1, "learning_rate": 0.01} | changes)


@pytest.mark.parametrize("schedule", ["cosine", "exponential"])
def test_a_schedule_rises_to_its_peak_and_ends_at_its_fraction(schedule):
    rate = learning_rate_schedule(recipe(schedule=schedule, warmup_steps=10, final_fraction=0.05), n_steps=100)
    rates = np.array([rate(step) for step in range(101)])
    assert rates[0] == pytest.approx(0.001)
    assert rates[9] == pytest.approx(0.01)
    assert np.all(np.diff(rates[:10]) > 0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[100] == pytest.approx(0.0005, rel=1e-5)


def test_a_constant_schedule_stays():
    rate = learning_rate_schedule(recipe(schedule="constant"), n_steps=100)
    assert float(rate(0)) == float(rate(99)) == pytest.approx(0.01)


def test_a_long_gradient_is_clipped_to_the_norm():
    params = {"a": jnp.zeros(3)}
    optimizer = make_optimizer(recipe(clip_norm=1.0, schedule="constant"), n_steps=10)
    state = optimizer.init(params)
    for gradient in (jnp.array([3.0, 0.0, 4.0]), jnp.array([300.0, 0.0, 400.0])):
        _, after = optimizer.update({"a": gradient}, state, params)
        assert jnp.allclose(after[1].mu["a"], 0.1 * jnp.array([0.6, 0.0, 0.8]), atol=1e-7)


@pytest.mark.parametrize("name", ["adamw", "amsgrad"])
def test_weight_decay_is_decoupled_from_the_gradient(name):
    params = {"a": jnp.ones(2)}
    optimizer = make_optimizer(recipe(optimizer=name, weight_decay=0.1, schedule="constant"), n_steps=10)
    updates, _ = optimizer.update({"a": jnp.zeros(2)}, optimizer.init(params), params)
    assert jnp.allclose(updates["a"], -0.01 * 0.1)


def test_the_average_forgets_its_start_within_a_short_run():
    average = {"a": jnp.float32(100.0)}
    for update in range(30):
        average = update_average(average, {"a": jnp.float32(1.0)}, 0.999, jnp.int32(update))
    assert abs(average["a"] - 1.0) < 0.01  # a fixed decay of 0.999 would leave 97 % of the start
