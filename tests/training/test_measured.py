"""What a recipe leaves out is measured on the training split, said, and kept."""

import ase
import ase.neighborlist
import numpy as np
import pytest

from mlip.data import Frame, Store
from mlip.errors import MlipError
from mlip.training.dry_run import describe_plan
from mlip.training.measured import complete_recipe, mean_neighbors
from mlip.training.potentials.potential_dataset import open_dataset
from mlip.training.recipe_file import load_recipe
from tests.emt_world import write_store

MACE = """
data: {store: STORE, workers: 0}
model: {model: mace, cutoff: 3.6, channels: 4, max_ell: 1, correlation: 2}
train: {epochs: 3, batch_size: 8, learning_rate: 0.01}
out: OUT
"""


@pytest.fixture
def mace_recipe(tmp_path, emt_store):
    path = tmp_path / "recipe.yaml"
    path.write_text(MACE.replace("STORE", str(emt_store)).replace("OUT", str(tmp_path / "run")))
    return lambda *overrides: load_recipe(path, overrides)


def test_elements_and_neighbors_are_those_of_the_training_split(mace_recipe, emt_store):
    with Store(emt_store) as store:
        model = complete_recipe(mace_recipe(), store, open_dataset(store)).model
        frames = [store.frame(int(index)) for index in store.indices("train")]
    assert model.elements == (13, 28, 29, 47)
    counts = [
        np.bincount(ase.neighborlist.neighbor_list("i", ase.Atoms(f.numbers, f.positions, cell=f.cell, pbc=True), 3.6))
        for f in frames
    ]
    assert model.mean_neighbors == pytest.approx(np.concatenate(counts).mean())


def test_what_the_recipe_says_is_not_measured(mace_recipe, emt_store):
    recipe = mace_recipe("model.mean_neighbors=7", "model.elements=[13,28,29,47,78]")
    with Store(emt_store) as store:
        assert complete_recipe(recipe, store, open_dataset(store)) is recipe


def test_a_resumed_run_has_the_model_that_was_measured_first(mace_recipe, emt_store, tmp_path):
    recipe, remembered = mace_recipe(), tmp_path / "model.json"
    with Store(emt_store) as store:
        data = open_dataset(store)
        first = complete_recipe(recipe, store, data, remembered)
        remembered.write_text(remembered.read_text().replace('"channels":4', '"channels":5'))
        assert complete_recipe(recipe, store, data, remembered).model == first.model.model_copy(update={"channels": 5})


def test_a_written_recipe_leaves_out_what_was_left_out(mace_recipe, tmp_path):
    recipe = mace_recipe()
    recipe.save(tmp_path / "resolved.yaml")
    again = load_recipe(tmp_path / "resolved.yaml")
    assert again.fingerprint() == recipe.fingerprint()
    assert again.model.model_fields_set.isdisjoint({"elements", "mean_neighbors"})


def test_a_plan_says_what_was_measured(mace_recipe):
    assert "measured on the training set, as the recipe leaves it out: 4 elements" in describe_plan(mace_recipe())
    plan = describe_plan(mace_recipe("model.mean_neighbors=7", "model.elements=[13,28,29,47]"))
    assert "measured" not in plan


def test_lone_atoms_do_not_lower_the_mean(tmp_path):
    pair = Frame(np.array([29, 29]), np.array([[0.0, 0, 0], [2, 0, 0]]), np.zeros((3, 3)), np.zeros(3, bool), 0.0)
    alone = Frame(np.array([29]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), 0.0)
    with Store(write_store(tmp_path / "molecules.h5", [pair, alone, alone], n_validation=0)) as store:
        assert mean_neighbors(store, store.indices("train"), 3.0) == 1.0
        with pytest.raises(MlipError, match=r"no atom .* within 1 A"):
            mean_neighbors(store, store.indices("train"), 1.0)
