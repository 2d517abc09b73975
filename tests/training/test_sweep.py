"""A sweep is one run for each combination, and one table, whatever happens to single runs."""

import csv

import pytest

from mlip.errors import MlipError
from mlip.training.sweep import TABLE, plan_sweep, run_sweep
from tests.emt_world import TINY_RECIPE


@pytest.fixture
def recipe(tmp_path, emt_store):
    path = tmp_path / "recipe.yaml"
    path.write_text(TINY_RECIPE.replace("STORE", str(emt_store)).replace("OUT", str(tmp_path / "out")))
    return path


def plan(recipe, text, *overrides):
    sweep = recipe.with_name("sweep.yaml")
    sweep.write_text(text)
    return plan_sweep(recipe, overrides, sweep)


def table(recipe) -> list[dict]:
    with (recipe.parent / "out" / TABLE).open() as file:
        return list(csv.DictReader(file))


def test_every_combination_has_a_folder_of_its_own(recipe):
    runs = plan(recipe, "train.batch_size: [4, 8]\ntrain.ema_decay: [null, 0.9]")
    assert [run.recipe.out.name for run in runs] == [
        "batch_size=4,ema_decay=None",
        "batch_size=4,ema_decay=0.9",
        "batch_size=8,ema_decay=None",
        "batch_size=8,ema_decay=0.9",
    ]
    assert runs[0].recipe.train.ema_decay is None
    assert runs[3].recipe.train.batch_size == 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.batch_sizes: [4]", "did you mean train.batch_size?"),
        ("train.batch_size: 4", "lists of values"),
        ("- 4", "lists of values"),
        ("out: [a, b]", "out is not swept"),
        (f"train.seed: {list(range(40))}\ntrain.epochs: {list(range(1, 41))}", "1,600 runs"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_line_before_anything_runs(recipe, text, expected):
    with pytest.raises(MlipError) as error:
        plan(recipe, text)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_that_fails_is_a_line_of_the_table_and_stops_no_other(recipe):
    runs = plan(recipe, "model.max_atomic_number: [1, 94]", "train.epochs=1")
    results = run_sweep(runs)
    assert [bool(result.error) for result in results] == [True, False]
    failed, done = table(recipe)
    assert "no parameters for" in failed["error"]
    assert float(done["loss"]) == results[1].validation["loss"] > 0
    written = results[1].validation, (runs[1].recipe.out / "potential.safetensors").stat().st_mtime
    (again,) = run_sweep(runs[1:])  # what is done is left alone
    (changed,) = run_sweep(plan(recipe, "model.max_atomic_number: [94]", "train.epochs=2"))
    assert "train.epochs was 1 and is now 2: not the same run" in changed.error
    assert (again.validation, (runs[1].recipe.out / "potential.safetensors").stat().st_mtime) == written


@pytest.mark.slow
def test_runs_go_side_by_side_on_workers(recipe):
    pytest.importorskip("distributed")
    runs = plan(recipe, "train.seed: [0, 1]", "train.epochs=1")
    results = run_sweep(runs, cluster="local:2")
    assert sorted(result.values["train.seed"] for result in results) == [0, 1]
    assert all(result.validation["loss"] > 0 for result in results)
