"""Real, tiny training runs: they learn, they go on where they stopped, and they survive bad data."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

import mlip
from mlip.data import Store
from mlip.errors import MlipError
from mlip.evaluation.evaluate import evaluate, store_frames
from mlip.training import loop
from mlip.training.dry_run import describe_plan
from mlip.training.log import RunLog, read_metrics
from mlip.training.loop import train
from mlip.training.potentials.parity import draw_parity
from mlip.training.potentials.potential_loss import QUANTITIES
from mlip.training.recipe_file import load_recipe
from tests.emt_world import TINY_RECIPE, emt_frames, write_store


@pytest.fixture(scope="module")
def finished(tmp_path_factory, emt_store):
    """A run of 25 epochs and its recipe."""
    folder = tmp_path_factory.mktemp("finished")
    path = folder / "recipe.yaml"
    path.write_text(TINY_RECIPE.replace("STORE", str(emt_store)).replace("OUT", str(folder / "run")))
    recipe = load_recipe(path, ["train.epochs=25"])
    train(recipe, quiet=True)
    return recipe


def test_a_tiny_training_beats_the_trivial_predictors(finished, emt_store):
    potential = mlip.load(finished.out / "potential.safetensors")
    with Store(emt_store) as store:
        row = evaluate(potential, store_frames(store, "test")).rows[-1]
    assert row.energy_mae < 0.5 * row.energy_mae_e0
    assert row.forces_mae < 0.7 * row.forces_mae_zero


def test_the_run_folder_holds_everything(finished):
    names = {path.name for path in finished.out.iterdir()}
    assert names >= {
        "recipe.yaml",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "potential.safetensors",
        "learning_curves.png",
        "parity.png",
    }
    validation = read_metrics(finished.out, "validation")
    assert [record["epoch"] for record in validation] == list(range(1, 26))
    assert validation[-1]["loss"] < validation[0]["loss"]
    last = read_metrics(finished.out, "train")[-1]
    assert last["compiled_shapes"] <= 3
    assert 0 <= last["data_wait_share"] <= 1
    assert 0 <= last["padded_fraction"] < 1
    assert last["structures_per_second"] > 0


def test_the_exported_potential_says_where_it_is_from(finished):
    metadata = mlip.load(finished.out / "potential.safetensors").metadata
    assert set(metadata.reference_energies) == {"Cu", "Al", "Ni", "Ag"}
    assert metadata.functional == "EMT surrogate"
    assert "surrogate" in metadata.provenance["note"]
    assert metadata.provenance["recipe_fingerprint"] == finished.fingerprint()
    assert metadata.provenance["store_fingerprint"]


def test_an_exported_potential_without_frames_to_plot_is_a_success(finished, tmp_path, capsys):
    """The validation frames are of an element that the potential does not know."""
    potential = mlip.load(finished.out / "potential.safetensors")
    path = write_store(tmp_path / "platinum.h5", emt_frames(3, seed=5, symbols=("Pt",)), n_validation=1)
    with Store(path) as store, RunLog(tmp_path, n_steps=150, quantities=QUANTITIES) as log:
        draw_parity(tmp_path, potential, store, log)
    assert "no parity plot" in capsys.readouterr().out
    assert not (tmp_path / "parity.png").exists()


def test_a_folder_with_a_run_is_not_overwritten(finished):
    with pytest.raises(MlipError, match=r"holds a run already.*--resume"):
        train(finished, quiet=True)


def test_a_run_is_not_resumed_with_another_recipe(finished):
    other = finished.model_copy(update={"train": finished.train.model_copy(update={"learning_rate": 0.5})})
    with pytest.raises(MlipError, match=r"train\.learning_rate was 0\.01 and is now 0\.5"):
        train(other, resume=True, quiet=True)


def test_an_interrupted_run_ends_with_the_same_bits(tiny_recipe, monkeypatch):
    undisturbed = tiny_recipe(out="undisturbed")
    train(undisturbed, quiet=True)

    interrupted = tiny_recipe("train.checkpoint_every=2")
    n_batches = 0
    timed_next = loop.timed_next

    def until_the_tenth(batches):  # 6 steps an epoch: in the midst of the second, after the checkpoint of step 8
        nonlocal n_batches
        n_batches += 1
        if n_batches == 10:
            raise KeyboardInterrupt
        return timed_next(batches)

    monkeypatch.setattr(loop, "timed_next", until_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, quiet=True)
    monkeypatch.undo()
    train(interrupted, resume=True, quiet=True)
    # A record at each checkpoint and epoch end: none is lost to the kill.
    records = read_metrics(interrupted.out, "train")
    assert [record["step"] for record in records] == [2, 4, 6, 8, 10, 12, 14, 16, 18]

    expected = load_file(undisturbed.out / "potential.safetensors")
    found = load_file(interrupted.out / "potential.safetensors")
    assert expected.keys() == found.keys()
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values, err_msg=key)
    # What was done twice is in the log once.
    assert read_metrics(interrupted.out, "validation") == read_metrics(undisturbed.out, "validation")


def test_a_resumed_run_without_a_checkpoint_says_that_it_begins_anew(tiny_recipe, monkeypatch, capsys):
    def killed(batches):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "timed_next", killed)
    recipe = tiny_recipe()
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, resume=resume)
        assert ("no checkpoint in" in capsys.readouterr().out) == resume


@pytest.fixture
def store_with_an_infinite_force(tmp_path):
    frames = emt_frames(60, seed=1)
    forces = frames[5].forces.copy()
    forces[0, 0] = np.inf
    frames[5] = replace(frames[5], forces=forces)
    return write_store(tmp_path / "bad.h5", frames)


def test_a_step_that_is_not_finite_is_skipped_and_its_frame_named(tiny_recipe, store_with_an_infinite_force):
    recipe = tiny_recipe("train.epochs=2", store=store_with_an_infinite_force)
    train(recipe, quiet=True)
    skipped = read_metrics(recipe.out, "skipped")
    assert [record["frames"] for record in skipped] == [[5], [5]]
    assert [record["materials"] for record in skipped] == [["emt-5"], ["emt-5"]]
    assert all(np.isfinite(values).all() for values in load_file(recipe.out / "potential.safetensors").values())


def test_too_many_skipped_steps_stop_the_run_with_the_frames(tiny_recipe, store_with_an_infinite_force):
    recipe = tiny_recipe("train.max_skipped=0", store=store_with_an_infinite_force)
    with pytest.raises(MlipError, match=r"1 steps of an epoch were not finite; suspects: frames 5 \(emt-5\)"):
        train(recipe, quiet=True)


def test_missing_labels_are_trained_around(tiny_recipe, tmp_path):
    frames = [
        replace(frame, forces=None if index % 2 else frame.forces, stress=None)
        for index, frame in enumerate(emt_frames(60, seed=1))
    ]
    recipe = tiny_recipe("train.epochs=1", store=write_store(tmp_path / "partial.h5", frames))
    train(recipe, quiet=True)
    (validation,) = read_metrics(recipe.out, "validation")
    assert np.isfinite([validation[key] for key in ("loss", "energy_mae", "forces_mae")]).all()
    assert validation["stress_mae"] is None

    def no_constant(name):
        raise AssertionError(f"{name} is no JSON")

    for line in (recipe.out / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=no_constant)


def test_validation_frames_with_elements_new_to_the_potential_are_left_out_aloud(tiny_recipe, tmp_path):
    frames = emt_frames(40, seed=4)
    frames[-10] = emt_frames(1, seed=5, symbols=("Pt",))[0]  # the last 16: 8 for validation, 8 for test
    recipe = tiny_recipe(store=write_store(tmp_path / "new.h5", frames))
    plan = describe_plan(recipe)
    assert "validation 7 frames" in plan
    assert "1 validation frames left out" in plan
    assert not recipe.out.exists()


def test_data_with_an_element_that_the_network_lacks_is_refused_before_training(finished, tmp_path):
    recipe = finished.model_copy(
        update={"out": tmp_path / "run", "model": finished.model.model_copy(update={"max_atomic_number": 1})}
    )
    with pytest.raises(MlipError, match="no parameters for"):
        train(recipe, quiet=True)


def test_what_goes_by_validations_is_refused_without_frames_for_them(tiny_recipe, tmp_path):
    store = write_store(tmp_path / "all_train.h5", emt_frames(20, seed=1), n_validation=0)
    for override in ("train.early_stopping=3", "train.schedule=plateau"):
        with pytest.raises(MlipError, match="needs validation frames, and the store has none"):
            train(tiny_recipe(override, store=store), quiet=True)


def test_validation_frames_of_other_elements_are_not_said_to_be_missing(tiny_recipe, tmp_path):
    frames = [*emt_frames(12, seed=1, symbols=("Cu", "Al")), *emt_frames(8, seed=2, symbols=("Ni",))]
    store = write_store(tmp_path / "strangers.h5", frames, n_validation=4)
    with pytest.raises(MlipError, match="all 4 contain elements that the training set lacks"):
        train(tiny_recipe("train.early_stopping=3", store=store), quiet=True)
