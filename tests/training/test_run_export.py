"""The best state of a run can be had at any time; a run that is stopped says where it is, and how it goes on."""

import numpy as np
import pytest
from safetensors.numpy import load_file

import mlip
from mlip.errors import MlipError
from mlip.training import loop
from mlip.training.log import read_metrics
from mlip.training.loop import train
from mlip.training.run_export import export_run, model_path


@pytest.fixture
def stopped(tiny_recipe, monkeypatch):
    """A run that was interrupted in its second epoch, of 6 steps each, and what it said."""
    recipe = tiny_recipe()
    with monkeypatch.context() as patched:
        interrupt_before_batch(10, patched)
        with pytest.raises(KeyboardInterrupt) as interrupt:
            train(recipe, quiet=True)
    return recipe, str(interrupt.value)


def interrupt_before_batch(number: int, monkeypatch) -> None:
    n_batches, timed_next = 0, loop.timed_next

    def interrupting(batches):
        nonlocal n_batches
        n_batches += 1
        if n_batches == number:
            raise KeyboardInterrupt
        return timed_next(batches)

    monkeypatch.setattr(loop, "timed_next", interrupting)


def test_an_interrupted_run_says_where_it_is_and_its_best_state_can_be_exported(stopped, tmp_path):
    recipe, said = stopped
    assert said == (
        f"after step 9 of 18; {recipe.out} has a checkpoint of step 6. Go on: the same command with --resume. "
        f"The best state so far: mlip export {recipe.out}"
    )
    before = sorted(path.name for path in recipe.out.rglob("*"))
    exported = export_run(recipe.out, tmp_path / "so_far.safetensors")
    assert (exported.step, exported.last_step, exported.is_best) == (6, 6, True)
    assert sorted(path.name for path in recipe.out.rglob("*")) == before
    potential = mlip.load(exported.path)
    assert set(potential.elements) == {"Cu", "Al", "Ni", "Ag"}
    assert potential.metadata.provenance["step"] == 6
    assert model_path(recipe.out) == recipe.out / "potential.safetensors"


def test_of_a_run_that_has_ended_the_export_is_what_the_run_left(tiny_recipe, tmp_path):
    recipe = tiny_recipe()
    left = load_file(train(recipe, quiet=True))
    found = load_file(export_run(recipe.out, tmp_path / "again.safetensors").path)
    assert left.keys() == found.keys()
    for name, values in left.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_what_cannot_be_exported_is_told_in_a_line(tiny_recipe, stopped, tmp_path):
    with pytest.raises(MlipError, match="holds no run"):
        export_run(tmp_path / "nothing", tmp_path / "p.safetensors")
    recipe, _ = stopped
    with pytest.raises(MlipError, match=r"the run's store is not here \(say where it is: --store PATH\)"):
        export_run(recipe.out, tmp_path / "p.safetensors", store=tmp_path / "moved.h5")


def test_a_run_can_be_made_longer_and_says_so(tiny_recipe, capsys):
    train(tiny_recipe("train.epochs=2"), quiet=True)
    run = train(tiny_recipe("train.epochs=3"), resume=True)
    said = capsys.readouterr().out
    assert "train.epochs was 2 and is 3 from step 13 on; the cosine schedule is computed anew for that end" in said
    records = read_metrics(run.folder, "validation")
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert mlip.load(run).metadata.provenance["epochs_changed"] == [[12, 2, 3]]


def test_a_longer_run_of_a_constant_rate_is_the_undisturbed_one(tiny_recipe, capsys):
    constant = "train.schedule=constant"
    expected = load_file(train(tiny_recipe(constant, out="undisturbed"), quiet=True))
    train(tiny_recipe(constant, "train.epochs=1"), quiet=True)
    found = load_file(train(tiny_recipe(constant), resume=True))
    assert "the learning rate's schedule does not depend on it" in capsys.readouterr().out
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.usefixtures("stopped")
def test_a_run_can_be_made_shorter_but_not_than_it_is(tiny_recipe, capsys):
    path = train(tiny_recipe("train.epochs=1"), resume=True)
    assert "train.epochs was 3 and is 1" in capsys.readouterr().out
    assert mlip.load(path).metadata.provenance["step"] == 6
    train(tiny_recipe("train.epochs=2"), resume=True, quiet=True)
    with pytest.raises(MlipError, match=r"train\.epochs is 1 now, and the run is in epoch 2 already"):
        train(tiny_recipe("train.epochs=1"), resume=True, quiet=True)


def test_a_run_without_validation_frames_says_that_its_last_step_is_exported(tiny_recipe, tmp_path, capsys):
    from tests.emt_world import emt_frames, write_store

    store = write_store(tmp_path / "all_train.h5", emt_frames(20, seed=1), n_validation=0)
    train(tiny_recipe("train.epochs=1", store=store))
    said = capsys.readouterr().out
    assert "warning: no validation frames: the last step will be exported" in said
    (line,) = [line for line in said.splitlines() if line.startswith("epoch")]
    loss = float(line.rpartition("training loss ")[2].split()[0])
    assert loss == pytest.approx(read_metrics(tmp_path / "run", "train")[-1]["loss"], rel=1e-2)
