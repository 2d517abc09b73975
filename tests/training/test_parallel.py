"""Four devices compute what one computes."""

import os
import subprocess
import sys

import numpy as np
import pytest

from mlip.training import parallel

GRADIENT = """
import sys
import numpy as np
import jax
from jax.flatten_util import ravel_pytree
from mlip.data import Store
from mlip.models import build_model
from mlip.runtime import set_up_jax
from mlip.training import parallel
from mlip.training.dataset import open_dataset
from mlip.training.loop import new_state, training_batches
from mlip.training.recipe_file import load_recipe
from mlip.training.schedule import Plan
from mlip.training.step import make_train_step

set_up_jax()
recipe = load_recipe(sys.argv[1], ["train.clip_norm=null", *sys.argv[3:]])
with Store(recipe.data.store) as store:
    data = open_dataset(store)
    batch, _ = next(training_batches(recipe, store, data))
    state = new_state(recipe)
    step = make_train_step(build_model(recipe.model), recipe)
    batch = parallel.cut(batch, recipe.train.accumulate)
    scale = parallel.replicate(np.float32(data.scale))
    state, report = step(parallel.replicate(state), batch, scale, Plan(recipe, 1).knobs(1))
state, report = parallel.fetch(state), parallel.fetch(report._replace(structure_losses=()))
# After one step Adam's first moment is a tenth of the gradient.
np.savez(sys.argv[2], gradient=10 * ravel_pytree(state.optimizer[0].mu)[0], loss=report.loss,
         count=report.terms["forces"].count, devices=parallel.n_devices())
"""


@pytest.fixture
def gradient_on(tmp_path, tiny_recipe):
    def compute(n_devices: int, *overrides: str) -> dict:
        recipe = tiny_recipe("train.batch_size=44")  # all frames in one step, whatever the devices
        path, out = tmp_path / "one_step.yaml", tmp_path / "step.npz"
        recipe.save(path)
        flags = f"--xla_force_host_platform_device_count={n_devices}"
        quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiling is nearly all the time of this test
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"} | quick
        subprocess.run([sys.executable, "-c", GRADIENT, str(path), str(out), *overrides], env=environment, check=True)
        return dict(np.load(out))

    return compute


def test_gradients_of_four_devices_equal_those_of_one(gradient_on):
    one, four = gradient_on(1), gradient_on(4)
    assert (one["devices"], four["devices"]) == (1, 4)
    assert one["count"] == four["count"] == 44 * 2 * 3
    assert four["loss"] == pytest.approx(one["loss"], rel=1e-6)
    scale = np.abs(one["gradient"]).max()
    np.testing.assert_allclose(four["gradient"], one["gradient"], atol=1e-6 * max(scale, 1))


def test_a_step_in_parts_has_the_gradient_of_the_whole(gradient_on):
    whole, parts = gradient_on(1), gradient_on(2, "train.accumulate=2")
    assert parts["count"] == whole["count"]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    scale = np.abs(whole["gradient"]).max()
    np.testing.assert_allclose(parts["gradient"], whole["gradient"], atol=1e-6 * max(scale, 1))


def test_a_step_is_traced_once_though_its_state_comes_first_from_the_host():
    traces = []

    def step(state, batch):
        traces.append(state)
        return state + batch.sum()

    parallelised = parallel.parallelise(step, donate=(0,))
    state = parallel.replicate(np.float32(1.0))
    batch = np.ones((parallel.n_devices(), 3), np.float32)
    for _ in range(3):
        state = parallelised(state, batch)
    assert parallel.fetch(state) == 1 + 3 * 3
    assert len(traces) == 1
