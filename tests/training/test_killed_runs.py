"""A run that is killed at any moment, and resumed, ends with the very bits of one that was left alone."""

import multiprocessing
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import killed
import numpy as np
import pytest
from safetensors.numpy import load_file

from mlip.training.log import read_metrics
from mlip.training.recipe import Recipe

RUN = (
    "train.epochs=6",
    "train.batch_size=22",
    "train.checkpoint_every=1",
    "train.schedule.kind=plateau",
    "stage_two.after_epoch=3",
    "stage_two.energy=100",
    "stage_two.learning_rate=0.001",
    "stage_two.average=true",
)
"""Twelve steps, two an epoch, all of one shape; the last six are stage two, which ends with the mean of its epochs."""


@pytest.fixture(scope="module")
def live() -> Callable[..., BaseProcess]:
    """A function that begins or resumes a run in a process of its own: a fork of one that has imported all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlip.training.loop"])

    def start(*args) -> BaseProcess:
        process = context.Process(target=killed.go_on, args=args)
        process.start()
        return process

    return start


def length_of_life(process: BaseProcess) -> float:
    """Seconds, of a life that ends well."""
    start = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - start


def assert_same_end(found: Recipe, expected: Recipe) -> None:
    parameters = load_file(expected.out / "potential.safetensors")
    for name, values in load_file(found.out / "potential.safetensors").items():
        np.testing.assert_array_equal(values, parameters[name], err_msg=name)
    validations = [read_metrics(recipe.out, "validation") for recipe in (found, expected)]
    assert validations[0] == validations[1]
    steps = [record["step"] for record in read_metrics(found.out, "train")]
    assert steps == list(range(1, 13))  # none is missing, none is told twice


def test_killed_in_each_phase_a_run_ends_with_the_bits_of_an_undisturbed_one(live, tiny_recipe):
    undisturbed, recipe = tiny_recipe(*RUN, out="undisturbed"), tiny_recipe(*RUN)
    length_of_life(live(undisturbed))
    # In the midst of the second epoch while a checkpoint is written; in a validation of stage two; at the end.
    for place, call in [("checkpoint", 3), ("validation", 3), ("export", 1)]:
        process = live(recipe, place, call)
        process.join()
        assert process.exitcode == -signal.SIGKILL, place
    length_of_life(live(recipe))
    assert_same_end(recipe, undisturbed)


@pytest.mark.slow
def test_killed_at_ten_random_moments_a_run_ends_with_the_bits_of_an_undisturbed_one(live, tiny_recipe):
    undisturbed, recipe = tiny_recipe(*RUN, out="undisturbed"), tiny_recipe(*RUN)
    seconds = length_of_life(live(undisturbed))
    rng, n_kills = np.random.default_rng(0), 0
    while n_kills < 10:
        process = live(recipe)
        process.join(rng.uniform(0.2, 1.0) * seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            n_kills += 1
        else:  # it came to its end before: another one
            assert process.exitcode == 0
            assert_same_end(recipe, undisturbed)
            shutil.rmtree(recipe.out)
    length_of_life(live(recipe))
    assert_same_end(recipe, undisturbed)
