"""Several seeds of a recipe, one after another, become an ensemble."""

import pytest

import mlip
from mlip.errors import MlipError
from mlip.training.seeds import ENSEMBLE, plan_seeds, train_seeds
from tests.emt_world import TINY_RECIPE


def test_seeds_are_trained_once_and_end_in_one_file(tmp_path, emt_store):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(TINY_RECIPE.replace("STORE", str(emt_store)).replace("OUT", str(tmp_path / "out")))
    runs = plan_seeds(recipe, ["train.epochs=1"], 2)
    path, results = train_seeds(runs)
    assert path == tmp_path / "out" / ENSEMBLE
    assert [result.error for result in results] == ["", ""]
    ensemble = mlip.load(path)
    assert ensemble.config.n_members == 2
    assert [one["name"] for one in ensemble.metadata.provenance["ensemble"]] == ["seed=0", "seed=1"]
    files = [run.recipe.out / "potential.safetensors" for run in runs]
    written = [file.stat().st_mtime for file in files]
    again, _ = train_seeds(plan_seeds(recipe, ["train.epochs=1"], 2))  # what is done is left alone
    assert [file.stat().st_mtime for file in files] == written
    assert mlip.load(again).fingerprint == ensemble.fingerprint


def test_one_seed_is_no_ensemble(tmp_path, emt_store):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(TINY_RECIPE.replace("STORE", str(emt_store)).replace("OUT", str(tmp_path / "out")))
    with pytest.raises(MlipError, match="1 seeds are no ensemble"):
        plan_seeds(recipe, [], 1)
