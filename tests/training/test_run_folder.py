"""A run folder belongs to one run: one recipe and one content of the store."""

import shutil

import pytest

from mlip.data import Store
from mlip.errors import MlipError
from mlip.training.loop import train
from mlip.training.run_folder import open_run_folder, store_fingerprint
from tests.emt_world import emt_frames, write_store


def fingerprint_of(path) -> str:
    with Store(path) as store:
        return store_fingerprint(store)


@pytest.fixture
def stopped_run(tiny_recipe, emt_store):
    """The recipe of a run that has left a checkpoint."""
    recipe = tiny_recipe()
    with open_run_folder(recipe, fingerprint_of(emt_store), resume=False) as folder:
        (folder.checkpoints / "8").mkdir(parents=True)
    return recipe


def test_a_run_is_resumed_with_its_store_at_another_place(stopped_run, tiny_recipe, emt_store, tmp_path):
    moved = shutil.copy(emt_store, tmp_path / "moved.h5")
    with open_run_folder(tiny_recipe(store=moved), fingerprint_of(moved), resume=True) as folder:
        assert folder.has_checkpoints()


def test_a_run_is_not_resumed_with_another_store(stopped_run, tiny_recipe, tmp_path):
    other = write_store(tmp_path / "other.h5", emt_frames(60, seed=2))
    before = (stopped_run.out / "recipe.yaml").read_text()
    with (
        pytest.raises(MlipError, match=r"other\.h5: not the store of this run"),
        open_run_folder(tiny_recipe(store=other), fingerprint_of(other), resume=True),
    ):
        pass
    assert (stopped_run.out / "recipe.yaml").read_text() == before


def test_a_folder_without_checkpoints_forgets_the_run_that_died_there(tiny_recipe, tmp_path):
    with open_run_folder(tiny_recipe(), "first", resume=False) as folder:
        folder.statistics.write_text("{}")
    with open_run_folder(tiny_recipe(), "second", resume=True) as folder:
        assert not folder.statistics.exists()
        assert folder.store_fingerprint.read_text().strip() == "second"


def test_two_processes_do_not_train_into_one_folder(tiny_recipe):
    recipe = tiny_recipe("train.epochs=1")
    with (
        open_run_folder(recipe, "fingerprint", resume=False),
        pytest.raises(MlipError, match="another process trains into this folder"),
    ):
        train(recipe, quiet=True)
    assert train(recipe, quiet=True).path.exists()
