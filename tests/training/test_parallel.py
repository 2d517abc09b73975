"""Many devices, and many processes, compute what one device computes."""

import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from mlip.training import parallel
from mlip.training.log import METRICS, read_metrics
from mlip.training.loop import train
from tests.emt_world import TINY_RECIPE

GRADIENT = """
import sys
import numpy as np
from jax.flatten_util import ravel_pytree
from mlip.data import Store
from mlip.runtime import set_up_jax
from mlip.training import parallel, processes
from mlip.training.potentials.potential_dataset import open_dataset
from mlip.training.batches import training_batches
from mlip.training.loop import new_state
from mlip.training.recipe_file import load_recipe
from mlip.training.schedule import Plan
from mlip.training.epoch_sources import epoch_of
from mlip.training.step import train_step_of
from mlip.training.task_of_recipe import task_of

path, out, coordinator, count, index, *overrides = sys.argv[1:]
recipe = load_recipe(path, ["train.clip_norm=null", *overrides])
with processes.joined(coordinator, int(count), int(index)), Store(recipe.data.store) as store:
    set_up_jax()
    data = open_dataset(store)
    task = task_of(recipe)
    batch, _ = next(training_batches(task, store, data, epoch_of(recipe.data, store, data)))
    state = new_state(task)
    step = train_step_of(task)
    batch = parallel.cut(batch, recipe.train.accumulate)
    scale = parallel.replicate(np.float32(data.scale))
    state, report = step(parallel.replicate(state), batch, scale, Plan(task, 1).knobs(1))
    state, report = parallel.fetch(state), parallel.fetch(report._replace(structure_losses=()))
    # After one step Adam's first moment is a tenth of the gradient.
    np.savez(f"{out}/{index}.npz", gradient=10 * ravel_pytree(state.optimizer[0].mu)[0], loss=report.loss,
             count=report.terms["forces"].count, devices=parallel.n_devices())
"""

CLI = """
from mlip.cli import main
from mlip.training import processes
processes._DEAD_SECONDS = 3.0
main()
"""


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def python(code: str, *arguments: object, devices: int = 1) -> subprocess.Popen:
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiling is nearly all the time of these tests
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | flags | quick, stderr=subprocess.PIPE, text=True)


def recipe_file(folder: Path, store: Path, out: Path) -> Path:
    """All frames are in one step, whatever the devices."""
    path = folder / "recipe.yaml"
    text = TINY_RECIPE.replace("STORE", str(store)).replace("OUT", str(out))
    path.write_text(text.replace("batch_size: 8", "batch_size: 48"))
    return path


@pytest.fixture(scope="module")
def gradient_on(tmp_path_factory, emt_store) -> Callable[..., list[dict]]:
    @functools.cache
    def compute(devices: int, *overrides: str, processes: int = 1) -> list[dict]:
        """What each process says of one step."""
        folder, address = tmp_path_factory.mktemp("gradient"), free_address()
        path = recipe_file(folder, emt_store, folder)
        runs = [
            python(GRADIENT, path, folder, address, processes, index, *overrides, devices=devices)
            for index in range(processes)
        ]
        for run in runs:
            _, errors = run.communicate(timeout=300)
            assert run.returncode == 0, errors
        return [dict(np.load(folder / f"{index}.npz")) for index in range(processes)]

    return compute


@pytest.mark.parametrize(
    ("devices", "processes", "overrides"),
    [(8, 1, ()), (2, 2, ()), (2, 1, ("train.accumulate=2",))],
    ids=["eight devices", "two processes of two devices", "two devices, each in two parts"],
)
def test_however_a_step_is_shared_its_gradient_is_that_of_one_device(gradient_on, devices, processes, overrides):
    (one,) = gradient_on(1)
    scale = np.abs(one["gradient"]).max()
    assert one["count"] == 44 * 2 * 3
    for found in gradient_on(devices, *overrides, processes=processes):
        assert found["devices"] == devices
        assert found["count"] == one["count"]
        assert found["loss"] == pytest.approx(one["loss"], rel=1e-6)
        np.testing.assert_allclose(found["gradient"], one["gradient"], atol=1e-6 * max(scale, 1))


@pytest.mark.parametrize("is_killed", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "one is killed"])
def test_two_processes_train_the_potential_that_one_trains(tmp_path, emt_store, tiny_recipe, is_killed):
    overrides = ("train.epochs=8", "train.precision=float64")
    alone = tiny_recipe("train.batch_size=48", *overrides, out="alone")
    train(alone, quiet=True)
    together = tmp_path / "together"
    path = recipe_file(tmp_path, emt_store, together)

    def start_both() -> list[subprocess.Popen]:
        where = ("--coordinator", free_address(), "--processes", 2, "--process")
        return [python(CLI, "train", path, *overrides, "--resume", *where, index) for index in range(2)]

    if is_killed:
        first, second = start_both()
        while not any((together / "checkpoints").glob("[2-9]")):
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.01)
        second.send_signal(signal.SIGKILL)
        _, errors = first.communicate(timeout=60)
        assert errors.splitlines()[-1] == "mlip: error: process 1 of 2 died; all stop, go on with --resume"
        assert not (together / "potential.safetensors").exists()
    for run in start_both():
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors

    found = load_file(together / "potential.safetensors")
    for name, expected in load_file(alone.out / "potential.safetensors").items():
        # Adam divides by 1e-8 what another order of sums leaves of a gradient that is zero.
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6, err_msg=name)
    losses = [[record["loss"] for record in read_metrics(run, "validation")] for run in (together, alone.out)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    records = (together / METRICS).read_text().splitlines()
    assert len(records) == len((alone.out / METRICS).read_text().splitlines())  # one of the two writes


def test_a_step_is_traced_once_though_its_state_comes_first_from_the_host():
    traces = []

    def step(state, batch):
        traces.append(state)
        return state + batch.sum()

    parallelized = parallel.parallelize(step, donate=(0,))
    state = parallel.replicate(np.float32(1.0))
    batch = np.ones((parallel.n_devices(), 3), np.float32)
    for _ in range(3):
        state = parallelized(state, batch)
    assert parallel.fetch(state) == 1 + 3 * 3
    assert len(traces) == 1
