"""Runs of one process that differ in nothing that a step's program knows share the program."""

import pytest

from mlip.training.step import train_step_of, validation_step_of
from mlip.training.task_of_recipe import task_of


@pytest.mark.parametrize("step_of", [train_step_of, validation_step_of])
def test_length_rate_seed_and_folder_of_a_run_need_no_other_step(step_of, tiny_recipe):
    step = step_of(task_of(tiny_recipe()))
    others = "train.epochs=7", "train.learning_rate=0.2", "train.seed=3", "train.batch_size=4", "train.ema_decay=null"
    assert step_of(task_of(tiny_recipe(*others, out="elsewhere"))) is step


@pytest.mark.parametrize(
    "other",
    ["model.units=4", "loss.kind=mse", "train.optimizer=amsgrad", "train.clip_norm=1", "train.matmul_precision=bf16"],
)
def test_what_a_step_computes_with_needs_a_step_of_its_own(other, tiny_recipe):
    assert train_step_of(task_of(tiny_recipe(other))) is not train_step_of(task_of(tiny_recipe()))


def test_a_step_of_training_is_not_one_of_validation(tiny_recipe):
    task = task_of(tiny_recipe())
    assert train_step_of(task) is not validation_step_of(task)
