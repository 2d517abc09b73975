"""A run folder keeps its last good checkpoints and the best one, whatever happens."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.training.checkpoint import Checkpoints
from mlip.training.optimizer import make_optimizer
from mlip.training.recipe import TrainRecipe
from mlip.training.step import TrainState


def state_of(value: float, width: int = 3, optimizer: str = "adam") -> TrainState:
    params = {"layer": {"kernel": np.full((2, width), value, np.float32)}}
    recipe = TrainRecipe(epochs=1, batch_size=1, learning_rate=0.1, optimizer=optimizer)
    return TrainState(params, params, make_optimizer(recipe, params).init(params))


def steps_in(folder) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_what_comes_back_is_what_was_saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, state_of(1.5), {"batches": {"epoch": 1, "step": 3}}, None)
        state, progress = checkpoints.restore(state_of(0.0))
    assert progress == {"batches": {"epoch": 1, "step": 3}}
    np.testing.assert_array_equal(state.average["layer"]["kernel"], np.full((2, 3), 1.5))


def test_the_last_ones_and_the_best_one_stay(tmp_path):
    losses = [3.0, 1.0, None, 2.0, float("nan"), None]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, loss in enumerate(losses, start=1):
            checkpoints.save(step, state_of(step), {}, loss)
        assert checkpoints.last_step == 6
        assert checkpoints.best_step == 2
        best, _ = checkpoints.restore(state_of(0.0), 2)
    assert best.params["layer"]["kernel"][0, 0] == 2
    assert steps_in(tmp_path) == [2, 5, 6]


def test_any_loss_of_a_later_stage_is_better_than_one_of_an_earlier_stage(tmp_path):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step, (loss, stage) in enumerate([(0.1, 1), (900.0, 2), (30.0, 2), (70.0, 2)], start=1):
            checkpoints.save(step, state_of(step), {}, loss, stage)
        assert checkpoints.best_step == 3
    assert steps_in(tmp_path) == [3, 4]


def test_of_losses_below_zero_the_lowest_is_the_best(tmp_path):
    """A loss that pays for an uncertainty may have any sign."""
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step, loss in enumerate([0.5, -3.0, -1.0, -2.0, 0.0], start=1):
            checkpoints.save(step, state_of(step), {}, loss)
        assert checkpoints.best_step == 2


def test_without_a_finite_validation_loss_there_is_no_best_one(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1.0), {}, float("nan"))
        checkpoints.save(2, state_of(2.0), {}, None)
        assert checkpoints.best_step is None
        assert checkpoints.last_step == 2


def test_a_checkpoint_that_a_kill_left_unfinished_is_not_taken_for_one(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1.0), {}, 1.0)
    unfinished = tmp_path / "2.orbax-checkpoint-tmp-0"
    (unfinished / "state").mkdir(parents=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last_step == 1
        assert checkpoints.restore(state_of(0.0))[0].params["layer"]["kernel"][0, 0] == 1
    assert not unfinished.exists()


@pytest.mark.parametrize("other", [{"width": 4}, {"optimizer": "amsgrad"}])
def test_a_checkpoint_of_another_model_or_optimiser_is_refused(tmp_path, other):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1.0), {}, None)
        with pytest.raises(MlipError, match="does not fit the recipe"):
            checkpoints.restore(state_of(0.0, **other))


@contextmanager
def files_no_larger_than(n_bytes: int) -> Iterator[None]:
    """As on a full disk, a write beyond it fails; the limit is this process's."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_one_clear_error_and_leaves_the_last_good_checkpoint(tmp_path, caplog):
    noise = np.random.default_rng(0).normal(size=(2, 30_000)).astype(np.float32)
    large = state_of(2.0)._replace(params={"layer": {"kernel": noise}})

    def save_two() -> None:
        with Checkpoints(tmp_path) as checkpoints, files_no_larger_than(50_000):
            checkpoints.save(2, large, {"skipped": 4}, 0.5)
            checkpoints.save(3, large, {"skipped": 5}, 0.5)

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1.0), {"skipped": 3}, 1.0)
    message = r"cannot write a checkpoint: File too large \(make room, then go on with --resume after step 1\)"
    with pytest.raises(MlipError, match=message):
        save_two()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    with Checkpoints(tmp_path) as checkpoints:
        state, progress = checkpoints.restore(state_of(0.0))
    assert progress == {"skipped": 3}
    np.testing.assert_array_equal(state.params["layer"]["kernel"], np.full((2, 3), 1.0))
    assert steps_in(tmp_path) == [1]


def test_a_checkpoint_whose_removal_was_cut_short_is_no_obstacle(tmp_path):
    """A kill while an old checkpoint is removed leaves a part of its files."""
    for folder in ("before", "after"):
        with Checkpoints(tmp_path / folder, keep=2 if folder == "after" else 9) as checkpoints:
            for step, loss in enumerate([4.0, 1.0, 3.0, 2.0], start=1):
                checkpoints.save(step, state_of(step), {}, loss)
    shutil.rmtree(tmp_path / "before" / "1" / "state")
    shutil.copytree(tmp_path / "before" / "1", tmp_path / "after" / "1")
    with Checkpoints(tmp_path / "after", keep=2) as checkpoints:
        assert (checkpoints.last_step, checkpoints.best_step) == (4, 2)
        checkpoints.save(5, state_of(5), {}, None)
    assert steps_in(tmp_path / "after") == [2, 4, 5]
