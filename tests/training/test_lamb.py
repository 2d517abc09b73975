"""CrabNet's way of training against the original's trace, and how it differs from methods of the same names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.runtime import precision_scope
from mlip.training.good_average import GoodAverage
from mlip.training.lamb import scale_by_lamb
from mlip.training.optimizer import initial_optimizer_state, move
from mlip.training.recipe import LookaheadRecipe, Recipe, TrainRecipe
from mlip.training.recipe_file import read_recipe
from mlip.training.schedule import Plan
from mlip.training.task_of_recipe import task_of

NAMES = ["p0", "p1", "p2"]


def recipe() -> Recipe:
    """The recipe that comes with mlip, in which only the data are missing."""
    return read_recipe("crabnet", ["train.precision=float64"])


@pytest.fixture(scope="module")
def train() -> TrainRecipe:
    """How the recipe that comes with mlip moves parameters, those of another network."""
    return recipe().train.model_copy(update={"frozen": ()})


def rates(steps: int, steps_per_epoch: int) -> list[float]:
    plan = Plan(task_of(recipe()), steps_per_epoch)
    return [plan.learning_rate(step) for step in range(1, steps + 1)]


@pytest.fixture(scope="module")
def trace(shared):
    return np.load(shared / "goldens/crabnet/optimizer_trace.npz")


@pytest.fixture(scope="module")
def ours(trace, train):
    """Parameters after each of the 32 steps of the trace, and the averages."""
    targets = [trace[f"target{k}"] for k in range(3)]
    with precision_scope("float64"):
        params = {name: jnp.asarray(trace[f"{name}_init"]) for name in NAMES}
        state, average, account = initial_optimizer_state(train, params), params, GoodAverage()

        def loss(params):
            errors = [params[name] - target for name, target in zip(NAMES, targets, strict=True)]
            return sum(jnp.sum(0.1 * e**4 + e**2) for e in errors)

        @jax.jit
        def step(params, state, rate):
            return move(train, params, jax.grad(loss)(params), state, rate)

        steps, averages = [], []
        for k, rate in enumerate(rates(32, steps_per_epoch=4)):
            params, state = step(params, state, rate)
            steps.append(jax.device_get(params))
            if k % 4 == 3:
                average, account = account.observe(average, params, float(trace["swa_maes"][k // 4]))
                averages.append((account, jax.device_get(average)))
    return steps, averages


def test_lamb_with_lookahead_walks_the_originals_way(trace, ours):
    for name in NAMES:
        walked = np.array([params[name] for params in ours[0]])
        np.testing.assert_allclose(walked, trace[f"{name}_after_step"], rtol=0, atol=1e-14)


def test_the_average_of_good_parameters_is_the_originals(trace, ours):
    averages = ours[1]
    assert [(account.count, int(account.is_good)) for account, _ in averages] == [
        tuple(row) for row in trace["swa_navg_and_found"]
    ]
    for name in NAMES:
        found = np.array([average[name] for _, average in averages])
        np.testing.assert_allclose(found, trace[f"{name}_swa_after_update"], rtol=0, atol=1e-14)
        np.testing.assert_allclose(found[-1], trace[f"{name}_final_swapped"], rtol=0, atol=1e-14)


def test_the_triangular_rate_is_the_originals(trace):
    np.testing.assert_allclose(rates(32, steps_per_epoch=4), trace["lr_used"], rtol=1e-13)


def test_the_rate_is_lowest_after_every_second_epoch():
    found = rates(61, steps_per_epoch=10)
    assert [k for k, rate in enumerate(found) if rate == min(found)] == [0, 20, 40, 60]
    assert max(found) == found[10] == pytest.approx(6e-3)


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
    plain = TrainRecipe(
        epochs=1, batch_size=1, learning_rate=1, optimizer="lamb", lookahead=LookaheadRecipe(period=2), clip_norm=None
    )
    position, gradient = jnp.array([0.0, 1.0]), jnp.array([-1.0, 0.0])
    states = [(position, initial_optimizer_state(plain, {"x": position}))]
    fast, slow = [], []
    for _ in range(6):
        params, state = states[-1]
        alone = plain.model_copy(update={"lookahead": None})
        reached, _ = move(alone, {"x": params}, {"x": gradient}, state.inner, jnp.float32(0.1))
        moved, state = move(plain, {"x": params}, {"x": gradient}, state, jnp.float32(0.1))
        fast.append(reached["x"])
        slow.append(moved["x"])
        states.append((moved["x"], state))
    for k in (0, 1, 2, 4):  # at the first meeting, after two steps, the slow ones are copied
        np.testing.assert_array_equal(slow[k], fast[k])
    np.testing.assert_allclose(slow[3], (slow[1] + fast[3]) / 2, rtol=1e-6)
    np.testing.assert_allclose(slow[5], (slow[3] + fast[5]) / 2, rtol=1e-6)


def test_a_large_improvement_begins_the_average_anew():
    average, account = GoodAverage().observe(jnp.zeros(2), jnp.array([1.0, 1.0]), 1.0)
    average, account = account.observe(average, jnp.array([3.0, 3.0]), 0.995)
    assert account.count == 3
    assert 1.0 < average[0] < 3.0
    average, account = account.observe(average, jnp.array([9.0, 9.0]), 0.5)
    assert account.count == 2
    np.testing.assert_array_equal(average, 9.0)
    average, worse = account.observe(average, jnp.array([0.0, 0.0]), 0.6)
    assert not worse.is_good
    np.testing.assert_array_equal(average, 9.0)
