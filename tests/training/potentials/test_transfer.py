"""Going on from a potential: nothing of it is lost on the way, and what is adjusted is said."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from safetensors.numpy import load_file

import mlip
from mlip.data import Store
from mlip.errors import MlipError
from mlip.evaluation.evaluate import evaluate, store_frames
from mlip.training.epoch_sources import describe_epoch
from mlip.training.log import read_metrics
from mlip.training.loop import Run, open_store, train
from mlip.training.recipe_file import load_recipe
from tests.emt_world import TINY_RECIPE, emt_frames, write_store

OFFSETS = {"Cu": -1.5, "Al": 0.5, "Ni": 2.0, "Ag": 0.0}


def shifted(frames, offsets=OFFSETS):
    """The same surface with other reference energies, as another functional would have."""
    of_number = {29: "Cu", 13: "Al", 28: "Ni", 47: "Ag"}
    return [
        replace(frame, energy=frame.energy + sum(offsets[of_number[int(z)]] for z in frame.numbers)) for frame in frames
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory, emt_store):
    """A potential trained on four metals, and a function that makes recipes that start from it."""
    folder = tmp_path_factory.mktemp("transfer")

    def recipe(*overrides, out, store=emt_store, without_model=True):
        text = TINY_RECIPE.replace("STORE", str(store)).replace("OUT", str(folder / out))
        if without_model:
            text = "\n".join(line for line in text.splitlines() if not line.startswith("model:"))
        path = folder / f"{out}.yaml"
        path.write_text(text)
        return load_recipe(path, overrides)

    recipe.base = train(recipe("train.epochs=12", out="base", without_model=False), quiet=True)
    return recipe


def errors_on(potential, store):
    with Store(store) as opened:
        return evaluate(potential, store_frames(opened, "test")).rows[-1]


def test_reference_energies_are_refitted_to_another_zero_of_energy(world, tmp_path):
    store = write_store(tmp_path / "shifted.h5", shifted(emt_frames(60, seed=1)))
    recipe = world(f"init_from={world.base}", out="refit", store=store)
    with open_store(recipe) as opened:
        data = Run(recipe, opened).data
    base = mlip.load(world.base).metadata
    found = {
        symbol: energy - base.reference_energies[symbol]
        for symbol, energy in data.heads["default"].reference_energies.items()
    }
    assert found == pytest.approx(OFFSETS, abs=0.1)  # the rest is the base's mean error on these frames
    assert data.heads["default"].scale == base.scale
    assert "refitted by its errors" in data.describe()


def test_a_run_that_moves_nothing_exports_the_potential_it_started_from(world, emt_store):
    """Learning rate of nearly 0, energies kept: predictions stay."""
    recipe = world(
        f"init_from.potential={world.base}",
        "init_from.reference_energies=keep",
        "train.learning_rate=1e-30",
        "train.epochs=1",
        out="still",
    )
    before, after = mlip.load(world.base), mlip.load(train(recipe, quiet=True))
    assert after.metadata.reference_energies == before.metadata.reference_energies
    assert errors_on(after, emt_store).energy_mae == errors_on(before, emt_store).energy_mae
    assert after.metadata.provenance["init_from"] == before.metadata.provenance


def test_frozen_parameters_are_exported_bit_for_bit(world):
    names = list(load_file(world.base))
    room = names[0].split(".")[0]
    recipe = world(f"init_from={world.base}", f"train.frozen=['{room}/*']", "train.epochs=1", out="frozen")
    before, after = load_file(world.base), load_file(train(recipe, quiet=True))
    for name in names:
        assert np.array_equal(before[name], after[name]) == (name.startswith(f"{room}.") or not after[name].size), name


def test_another_network_than_the_recipes_is_refused(world):
    recipe = world(f"init_from={world.base}", "model.units=16", out="other", without_model=False)
    with pytest.raises(MlipError, match=r"model\.units is 16, that of the potential 8.*leave the recipe's model"):
        train(recipe, quiet=True)


def frames_of_an_epoch(batches):
    frames = np.concatenate([batch.globals["frame"].ravel() for batch, _ in islice(batches, batches.steps_per_epoch)])
    return frames[frames >= 0]


def test_replayed_frames_are_their_share_of_an_epoch_and_keep_old_elements_alive(world, tmp_path, emt_store):
    copper = write_store(tmp_path / "copper.h5", emt_frames(40, seed=3, symbols=("Cu",)))
    recipe = world(
        f"init_from={world.base}",
        f"data.replay.store={emt_store}",
        "data.replay.share=0.25",
        "train.epochs=1",
        out="replay",
        store=copper,
    )
    with open_store(recipe) as store:
        run = Run(recipe, store)
        n_new, n_old = len(run.data.train), len(run.data.replayed)
        assert (n_new, n_old, len(run.data.validation)) == (24, 44, 8)
        assert run.epoch.n_frames == 24 + 8  # 8 of 32 are a quarter
        epochs = [frames_of_an_epoch(run.batches) for _ in range(6)]
        assert describe_epoch(run.epoch)[1].endswith("8 frames an epoch (25.0%), each of its 44 seen 0.18 times")
        n_first = Store(copper).n_frames
    for frames in epochs:
        assert sorted(frames[frames < n_first].tolist()) == run.data.train.tolist()
    replayed = [frames[frames >= n_first] for frames in epochs]
    assert len(set(np.concatenate(replayed[:5]).tolist())) == 5 * 8  # others in each epoch
    assert set(np.concatenate(replayed).tolist()) == set(run.data.replayed.tolist())
    potential = mlip.load(train(recipe, quiet=True))
    assert potential.metadata.provenance["replayed_from_frames"] == 44
    assert set(potential.elements) == {"Cu", "Al", "Ni", "Ag"}


def test_stage_two_starts_after_its_epoch_with_its_weights(world, capsys):
    recipe = world(
        f"init_from={world.base}",
        "stage_two.after_epoch=2",
        "stage_two.energy=50",
        "stage_two.learning_rate=0.001",
        "stage_two.average=true",
        "train.epochs=4",
        out="two",
    )
    train(recipe)
    said = capsys.readouterr().out
    assert "stage two from epoch 3: weights energy 50, forces 1, stress 0.01, learning rate 0.001, mean of" in said
    validation = read_metrics(recipe.out, "validation")
    share = [record["loss_energy"] / record["loss"] for record in validation]
    assert min(share[2:]) > max(share[:2])
    assert all(record["loss_stress"] > 0 for record in validation)
    step = mlip.load(recipe.out / "potential.safetensors").metadata.provenance["step"]
    assert step in (18, 24)  # a step of stage two: its losses are larger, but not comparable


def test_early_stopping_ends_a_run_that_does_not_improve(world):
    recipe = world(
        f"init_from={world.base}", "train.learning_rate=1e-30", "train.epochs=9", "train.early_stopping=2", out="early"
    )
    train(recipe, quiet=True)
    assert [record["epoch"] for record in read_metrics(recipe.out, "validation")] == [1, 2, 3]
