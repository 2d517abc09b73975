"""A run as Python has it: it goes where its model's path goes, and notebooks show its curves and errors."""

import base64
import re
import shutil
from pathlib import Path

import pytest

import mlip
from mlip.training.log import read_metrics
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe
from mlip.training.training_run import TrainingRun
from tests.emt_world import TINY_RECIPE


@pytest.fixture(scope="module")
def run(tmp_path_factory, emt_store) -> TrainingRun:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "recipe.yaml").write_text(
        TINY_RECIPE.replace("STORE", str(emt_store)).replace("OUT", str(folder / "run"))
    )
    return train(load_recipe(folder / "recipe.yaml", ["train.epochs=2"]), quiet=True)


@pytest.fixture
def unfinished(run, tmp_path) -> TrainingRun:
    """The run as it was before it ended."""
    shutil.copytree(run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("potential.safetensors"))
    return TrainingRun(tmp_path / "run")


def test_it_goes_where_the_path_of_its_model_goes(run):
    assert run.path == Path(run) == Path(str(run)) == run.folder / "potential.safetensors"
    assert mlip.load(run).fingerprint == run.load().fingerprint


def test_records_are_a_table(run):
    table = run.to_dataframe()
    assert table.epoch.tolist() == [1, 2]
    assert table.energy_mae.tolist() == [record["energy_mae"] for record in read_metrics(run.folder, "validation")]
    assert len(run.to_dataframe("train")) == len(read_metrics(run.folder, "train"))


def test_notebooks_show_the_errors_of_the_exported_state_and_the_curves(run):
    page = run._repr_html_()
    step = run.load().metadata.provenance["step"]
    (exported,) = (record for record in read_metrics(run.folder, "validation") if record["step"] == step)
    assert f"<th>validation</th><td>{step:,}</td><td>{exported['loss']:.4g}</td>" in page
    assert "energy MAE, meV/atom" in page
    picture = base64.b64decode(re.search(r"base64,([^\"]+)\"", page)[1])
    assert picture.startswith(b"\x89PNG")
    assert f"loss {exported['loss']:.4g}" in repr(run)
    assert "\n" not in repr(run)


def test_one_that_has_not_ended_says_so_and_how_to_get_what_there_is(unfinished):
    assert "has not ended" in repr(unfinished)
    assert "2 of 2 epochs" in unfinished._repr_html_()
    with pytest.raises(mlip.MlipError, match=r"has not ended .*mlip export"):
        unfinished.load()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(mlip.MlipError, match="holds no run"):
        TrainingRun(tmp_path)
