"""Gradients are clipped, weights decay as the optimizer's name says, frozen parameters stay bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from mlip.errors import MlipError
from mlip.training.optimizer import descend, make_optimizer, matching, update_average
from mlip.training.recipe import TrainRecipe


def recipe(**changes) -> TrainRecipe:
    return TrainRecipe(**{"epochs": 1, "batch_size": 1, "learning_rate": 0.01} | changes)


def test_a_long_gradient_is_clipped_to_the_norm():
    params = {"a": jnp.zeros(3)}
    optimizer = make_optimizer(recipe(clip_norm=1.0), params)
    state = optimizer.init(params)
    for gradient in (jnp.array([3.0, 0.0, 4.0]), jnp.array([300.0, 0.0, 400.0])):
        _, after = optimizer.update({"a": gradient}, state, params)
        assert jnp.allclose(after[1].mu["a"], 0.1 * jnp.array([0.6, 0.0, 0.8]), atol=1e-7)


def test_weight_decay_of_adamw_is_decoupled_from_the_gradient():
    params = {"a": jnp.ones(2)}
    optimizer = make_optimizer(recipe(optimizer="adamw", weight_decay=0.1), params)
    direction, _ = optimizer.update({"a": jnp.zeros(2)}, optimizer.init(params), params)
    assert jnp.allclose(direction["a"], 0.1)


@pytest.mark.parametrize("name", ["adam", "amsgrad"])
def test_weight_decay_of_adam_is_part_of_the_gradient(name):
    params = {"a": jnp.ones(2)}
    optimizer = make_optimizer(recipe(optimizer=name, weight_decay=0.1), params)
    direction, _ = optimizer.update({"a": jnp.zeros(2)}, optimizer.init(params), params)
    assert jnp.allclose(direction["a"], 1.0, rtol=1e-4)  # Adam's first step has the sign of the gradient


def test_amsgrad_is_that_of_pytorch():
    """Positions after every fifth of 20 steps of torch 2.13's `Adam(amsgrad=True)`. A first gradient larger than
    all others slows the steps after it less than where means are corrected before their largest is taken."""
    params = {"a": jnp.zeros(())}
    optimizer = make_optimizer(recipe(optimizer="amsgrad", clip_norm=None), params)
    state, found = optimizer.init(params), []
    for gradient in (3.0, -0.5, 0.2, 0.1, 0.1) * 4:
        direction, state = optimizer.update({"a": jnp.float32(gradient)}, state, params)
        params = descend(params, direction, jnp.float32(0.01))
        found.append(float(params["a"]))
    assert found[4::5] == pytest.approx([-0.02739749, -0.04912425, -0.07011691, -0.09088656], rel=1e-5)


def test_only_the_named_parameters_decay():
    params = {"block": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}, "scale": jnp.ones(1)}
    optimizer = make_optimizer(
        recipe(optimizer="adamw", weight_decay=0.1, decayed=("*/kernel",), frozen=("scale",)), params
    )
    nothing = jax.tree.map(jnp.zeros_like, params)
    direction, _ = optimizer.update(nothing, optimizer.init(params), params)
    assert jnp.allclose(direction["block"]["kernel"], 0.1)
    assert jnp.all(direction["block"]["bias"] == 0)


def test_frozen_parameters_stay_and_take_no_part_in_the_norm():
    params = {"a": jnp.array([0.1, 0.7]), "b": {"kernel": jnp.array([0.3])}}
    optimizer = make_optimizer(recipe(frozen=("b/*",), clip_norm=1.0, weight_decay=0.1), params)
    gradient = {"a": jnp.array([0.1, 0.2]), "b": {"kernel": jnp.array([1e6])}}
    direction, state = optimizer.update(gradient, optimizer.init(params), params)
    moved = descend(params, direction, jnp.float32(0.01))
    assert moved["b"]["kernel"] == params["b"]["kernel"]
    assert jnp.allclose(moved["a"], params["a"] - 0.01, rtol=1e-4)
    assert not any(leaf.size == 1 and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))  # no moments of b
    average = update_average(params, moved, jnp.float32(0.9))
    assert average["b"]["kernel"] == params["b"]["kernel"]


def test_a_pattern_that_fits_nothing_is_an_error_that_lists_what_there_is():
    params = {"embedding": {"kernel": jnp.ones(1)}, "readout": {"kernel": jnp.ones(1)}}
    with pytest.raises(MlipError, match=r"no parameter is called 'embeding/\*'.*embedding/\*, readout/\*"):
        matching(params, ["embeding/*"], "train.frozen")
    with pytest.raises(MlipError, match="nothing to train"):
        make_optimizer(recipe(frozen=("*",)), params)


def test_an_average_at_decay_one_is_untouched_and_at_zero_the_parameters():
    average, params = {"a": jnp.float32(0.1)}, {"a": jnp.float32(0.3)}
    assert update_average(average, params, jnp.float32(1.0))["a"] == average["a"]
    assert update_average(average, params, jnp.float32(0.0))["a"] == params["a"]


def test_muon_is_optax_s_for_matrices_and_adam_s_for_all_others():
    """As Nequix has it: clip, then `optax.contrib.muon` with weight decay of its matrices, at a rate of its own."""
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(4, 3)), "scale": rng.normal(size=3), "stack": rng.normal(size=(2, 3, 3))}
    params = ours = theirs = jax.tree.map(jnp.float32, params)
    optimizer = make_optimizer(recipe(optimizer="muon", weight_decay=0.1, clip_norm=1.0), params)
    reference = optax.chain(optax.clip_by_global_norm(1.0), optax.contrib.muon(0.01, weight_decay=0.1))
    state, its_state = optimizer.init(params), reference.init(params)
    for _ in range(5):
        gradient = jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape)), params)
        direction, state = optimizer.update(gradient, state, ours)
        ours = descend(ours, direction, jnp.float32(0.01))
        update, its_state = reference.update(gradient, its_state, theirs)
        theirs = optax.apply_updates(theirs, update)
    for one, other, start in zip(*map(jax.tree.leaves, (ours, theirs, params)), strict=True):
        assert jnp.allclose(one, other, atol=1e-6)
        assert jnp.abs(one - start).max() > 0.01


def test_under_muon_frozen_parameters_stay_and_the_named_matrices_decay():
    params = {"a": {"kernel": jnp.eye(3), "bias": jnp.ones(3)}, "b": jnp.eye(3), "c": jnp.eye(3)}
    optimizer = make_optimizer(recipe(optimizer="muon", weight_decay=0.1, decayed=("a/*", "c"), frozen=("c",)), params)
    nothing = jax.tree.map(jnp.zeros_like, params)
    direction, _ = optimizer.update(nothing, optimizer.init(params), params)
    assert jnp.allclose(direction["a"]["kernel"], 0.1 * jnp.eye(3), atol=1e-6)
    for still in (direction["a"]["bias"], direction["b"], direction["c"]):
        assert jnp.allclose(still, 0.0, atol=1e-6)
