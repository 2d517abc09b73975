"""A run folder keeps its last good checkpoints and the best one, whatever happens."""

import jax.numpy as jnp
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
    return TrainState(params, params, make_optimizer(recipe, 10).init(params), jnp.int32(value))


def steps_in(folder) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_what_comes_back_is_what_was_saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, state_of(1.5), {"batches": {"epoch": 1, "step": 3}}, None)
        state, progress = checkpoints.restore(state_of(0.0))
    assert progress == {"batches": {"epoch": 1, "step": 3}}
    np.testing.assert_array_equal(state.average["layer"]["kernel"], np.full((2, 3), 1.5))
    assert state.n_updates == 1


def test_the_last_ones_and_the_best_one_stay(tmp_path):
    losses = [3.0, 1.0, None, 2.0, float("nan"), None]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, loss in enumerate(losses, start=1):
            checkpoints.save(step, state_of(step), {}, loss)
        assert checkpoints.last_step == 6
        assert checkpoints.best_step == 2
        best, _ = checkpoints.restore(state_of(0.0), 2)
    assert best.n_updates == 2
    assert steps_in(tmp_path) == [2, 5, 6]


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
        assert checkpoints.restore(state_of(0.0))[0].n_updates == 1
    assert not unfinished.exists()


@pytest.mark.parametrize("other", [{"width": 4}, {"optimizer": "amsgrad"}])
def test_a_checkpoint_of_another_model_or_optimiser_is_refused(tmp_path, other):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1.0), {}, None)
        with pytest.raises(MlipError, match="does not fit the recipe"):
            checkpoints.restore(state_of(0.0, **other))
