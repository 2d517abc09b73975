"""CrabNet's optimizer against the original's trace, and how it differs from methods of the same names."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlip.runtime import precision_scope
from mlip.training.lamb import GoodAverage, lamb_with_lookahead, lookahead, scale_by_lamb, triangular_rate

NAMES = ["p0", "p1", "p2"]


@pytest.fixture(scope="module")
def trace(shared):
    return np.load(shared / "goldens/crabnet/optimizer_trace.npz")


@pytest.fixture(scope="module")
def ours(trace):
    """Parameters after each of the 32 steps of the trace, and the averages."""
    targets = [trace[f"target{k}"] for k in range(3)]
    with precision_scope("float64"):
        optimizer = lamb_with_lookahead()
        params = {name: jnp.asarray(trace[f"{name}_init"]) for name in NAMES}
        state, average = optimizer.init(params), GoodAverage.of(params)

        def loss(params):
            errors = [params[name] - target for name, target in zip(NAMES, targets, strict=True)]
            return sum(jnp.sum(0.1 * e**4 + e**2) for e in errors)

        @jax.jit
        def step(params, state, rate):
            change, state = optimizer.update(jax.grad(loss)(params), state, params, learning_rate=rate)
            return optax.apply_updates(params, change), state

        steps, averages = [], []
        for k in range(32):
            params, state = step(params, state, triangular_rate(k, 4))
            steps.append(jax.device_get(params))
            if k % 4 == 3:
                average = average.observe(params, float(trace["swa_maes"][k // 4]))
                averages.append(average._replace(average=jax.device_get(average.average)))
    return steps, averages


def test_lamb_with_lookahead_walks_the_originals_way(trace, ours):
    for name in NAMES:
        walked = np.array([params[name] for params in ours[0]])
        np.testing.assert_allclose(walked, trace[f"{name}_after_step"], rtol=0, atol=1e-14)


def test_the_average_of_good_parameters_is_the_originals(trace, ours):
    averages = ours[1]
    assert [(a.count, int(a.is_good)) for a in averages] == [tuple(row) for row in trace["swa_navg_and_found"]]
    for name in NAMES:
        found = np.array([a.average[name] for a in averages])
        np.testing.assert_allclose(found, trace[f"{name}_swa_after_update"], rtol=0, atol=1e-14)
        np.testing.assert_allclose(found[-1], trace[f"{name}_final_swapped"], rtol=0, atol=1e-14)


def test_the_triangular_rate_is_the_originals(trace):
    np.testing.assert_allclose([triangular_rate(k, 4) for k in range(32)], trace["lr_used"], rtol=1e-13)


def test_the_rate_is_lowest_after_every_second_epoch():
    rates = [triangular_rate(step, half_period=10) for step in range(61)]
    assert [k for k, rate in enumerate(rates) if rate == min(rates)] == [0, 20, 40, 60]
    assert max(rates) == rates[10] == pytest.approx(6e-3)


def test_a_direction_is_as_long_as_its_parameter_but_no_longer_than_ten():
    params = {"short": jnp.array([0.3, 0.4]), "long": jnp.full(4, 100.0)}
    gradient = {"short": jnp.array([1.0, -2.0]), "long": jnp.array([1.0, 2.0, 3.0, 4.0])}
    lamb = scale_by_lamb()
    direction, _ = lamb.update(gradient, lamb.init(params), params)
    assert jnp.linalg.norm(direction["short"]) == pytest.approx(0.5, rel=1e-6)
    assert jnp.linalg.norm(direction["long"]) == pytest.approx(10.0, rel=1e-6)


def test_a_parameter_at_zero_moves_and_one_without_gradient_stays():
    params = {"zero": jnp.zeros(2), "idle": jnp.ones(2)}
    gradient = {"zero": jnp.ones(2), "idle": jnp.zeros(2)}
    lamb = scale_by_lamb()
    direction, _ = lamb.update(gradient, lamb.init(params), params)
    assert jnp.all(direction["zero"] > 1.0)  # Adam's own, without correction of its bias: 0.1 / sqrt(0.001)
    np.testing.assert_array_equal(direction["idle"], 0.0)


def test_lookahead_goes_half_the_way_back_but_for_the_first_time():
    optimizer = lookahead(optax.sgd(1.0), period=2)
    position = jnp.zeros(())
    state = optimizer.init(position)
    positions = []
    for _ in range(6):
        change, state = optimizer.update(jnp.array(-1.0), state, position)
        position = position + change
        positions.append(float(position))
    assert positions == [1, 2, 3, 3, 4, 4]  # 2 is copied; 4 and 5 are met at 3 and 4


def test_a_large_improvement_begins_the_average_anew():
    average = GoodAverage.of(jnp.zeros(2)).observe(jnp.array([1.0, 1.0]), 1.0)
    average = average.observe(jnp.array([3.0, 3.0]), 0.995)
    assert average.count == 3
    assert 1.0 < average.average[0] < 3.0
    average = average.observe(jnp.array([9.0, 9.0]), 0.5)
    assert average.count == 2
    np.testing.assert_array_equal(average.average, 9.0)
    worse = average.observe(jnp.array([0.0, 0.0]), 0.6)
    assert not worse.is_good
    np.testing.assert_array_equal(worse.average, 9.0)
