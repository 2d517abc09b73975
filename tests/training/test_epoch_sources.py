"""Weights of a recipe: whose frames make up an epoch, and what is wrong with weights that fit no frames."""

import numpy as np
import pytest

from mlip.data import Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.training.epoch_sources import describe_epoch, epoch_of
from mlip.training.loop import open_store
from mlip.training.potentials.potential_dataset import open_dataset
from mlip.training.recipe_file import read_recipe
from tests.emt_world import emt_frames, write_store


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory):
    """24 training frames of PBE, three-dimensional; 8 of SCAN, four of them layers."""
    folder = tmp_path_factory.mktemp("sources")
    frames = emt_frames(32, seed=0)
    write_store(folder / "first.h5", frames[:24], functional="PBE", n_validation=0)
    with StoreWriter(folder / "second.h5") as writer:
        for k, frame in enumerate(frames[24:]):
            writer.add(Trajectory(f"layer-{k}", (frame,), "SCAN", 2 + k % 2), "train")
    return folder


@pytest.fixture
def epoch(tiny_recipe, two_stores):
    """A function: weights as on the command line -> what an epoch of both stores' training frames consists of."""

    def make(weights: str):
        stores = f"data.store=[{two_stores / 'first.h5'},{two_stores / 'second.h5'}]"
        recipe = tiny_recipe(stores, weights)
        with open_store(recipe) as store:
            return epoch_of(recipe.data, store, open_dataset(store))

    return make


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ("data.weights=[1,3]", [(24, 1), (8, 3)]),
        ("data.weights={functional: {PBE: 1, SCAN: 3}}", [(24, 1), (8, 3)]),
        ("data.weights={dimensionality: {3: 7, 2: 1}}", [(4, 1), (28, 7)]),
        ("data.weights=null", [(32, 1)]),
    ],
)
def test_a_source_is_a_store_or_a_functional_or_a_dimensionality(epoch, weights, shares):
    found = list(epoch(weights).sources.values())
    assert epoch(weights).n_frames == 32
    assert [(len(source.indices), source.weight) for source in found] == shares
    assert sorted(np.concatenate([source.indices for source in found]).tolist()) == list(range(32))


def test_a_run_says_how_often_frames_are_seen(epoch):
    first, second = describe_epoch(epoch("data.weights=[1,3]"))
    assert first.endswith("first.h5: 8 frames an epoch (25.0%), each of its 24 seen 0.33 times")
    assert second.endswith("second.h5: 24 frames an epoch (75.0%), each of its 8 seen 3 times")
    assert describe_epoch(epoch("data.weights=null")) == []


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("data.weights=[1,2,3]", "data.weights are 3, data.store are 2"),
        ("data.weights={functional: {PBE: 1}}", "functional SCAN has no weight"),
        ("data.weights={dimensionality: {3: 1, 2: 1, 1: 1}}", "dimensionality 1 has no training frames"),
    ],
)
def test_weights_that_fit_no_frames_are_refused(epoch, weights, message):
    with pytest.raises(MlipError, match=message):
        epoch(weights)


def test_a_written_recipe_is_read_back_with_its_weights(tiny_recipe, two_stores, tmp_path):
    stores = f"data.store=[{two_stores / 'first.h5'},{two_stores / 'second.h5'}]"
    for weights in ("data.weights=[1,3]", "data.weights={dimensionality: {3: 7, 2: 1}}"):
        recipe = tiny_recipe(stores, weights)
        recipe.save(tmp_path / "written.yaml")
        assert read_recipe(tmp_path / "written.yaml") == recipe


def test_a_recipe_with_one_store_opens_it_alone(tiny_recipe, emt_store):
    recipe = tiny_recipe()
    with open_store(recipe) as opened, Store(emt_store) as store:
        assert recipe.data.stores == (emt_store,)
        assert len(opened) == len(store)
