"""A sweep is one run for each combination, and one table, whatever happens to single runs."""

import csv
import os
import signal

import pytest

import mlip
from mlip.errors import MlipError
from mlip.training import sweep
from mlip.training.run_export import export_run
from mlip.training.sweep import TABLE, SweepResult, plan_sweep, run_sweep
from tests.emt_world import TINY_RECIPE


@pytest.fixture
def recipe(tmp_path, emt_store):
    path = tmp_path / "recipe.yaml"
    path.write_text(TINY_RECIPE.replace("STORE", str(emt_store)).replace("OUT", str(tmp_path / "out")))
    return path


def plan(recipe, text, *overrides):
    path = recipe.with_name("sweep.yaml")
    path.write_text(text)
    return plan_sweep(recipe, overrides, path)


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


def test_a_run_that_raises_anything_is_a_record_and_the_others_go_on(recipe, monkeypatch):
    runs = plan(recipe, "train.seed: [0, 1, 2]", "train.epochs=1")
    trained = sweep.train

    def failing(of, **options):
        if of.train.seed == 1:
            raise ZeroDivisionError("in the\nmidst")
        if of.train.seed == 0:
            raise MemoryError
        return trained(of, **options)

    monkeypatch.setattr(sweep, "train", failing)
    results = run_sweep(runs)
    assert [result.error for result in results] == ["MemoryError", "ZeroDivisionError: in the midst", ""]
    assert [row["error"] for row in table(recipe)] == [result.error for result in results]
    assert results[2].validation["loss"] > 0


def test_a_sweep_into_a_place_that_cannot_be_made_is_one_line(recipe):
    (recipe.parent / "out").write_text("a file")
    with pytest.raises(MlipError, match="is a file, not a folder"):
        run_sweep(plan(recipe, "train.seed: [0, 1]"))


def test_a_model_that_was_exported_before_the_end_is_not_taken_for_a_run_that_has_ended(recipe):
    (run,) = plan(recipe, "train.seed: [3]", "train.epochs=1")
    run_sweep([run])
    path = export_run(run.recipe.out, run.recipe.out / "potential.safetensors").path
    assert mlip.load(path).metadata.provenance["exported_after_step"] == 6
    (again,) = run_sweep([run])
    assert not again.error
    assert "exported_after_step" not in mlip.load(path).metadata.provenance


def test_a_run_that_kills_its_worker_is_a_record_and_the_others_go_on(recipe):
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")

    class Deadly(distributed.WorkerPlugin):
        """Runs of seed 1 kill the process that they are in; the others end at once."""

        name = "deadly"

        def setup(self, worker):
            def run_one(run, quiet=False):
                if run.values["train.seed"] == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                return SweepResult(run.values, {"loss": 1.0})

            sweep._run_one = run_one

    runs = plan(recipe, "train.seed: [0, 1, 2, 3]", "train.epochs=1")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
        ) as local,
        distributed.Client(local) as client,
    ):
        client.register_plugin(Deadly())
        results = run_sweep(runs, cluster=local.scheduler_address)
    errors = {result.values["train.seed"]: result.error for result in results}
    assert errors == {0: "", 1: "its worker was killed each time", 2: "", 3: ""}
