"""A recipe says what it means, and a mistake in it is one line with the way out."""

from pathlib import Path

import jax
import pytest

from mlip.errors import MlipError
from mlip.models import parse_config
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.recipe_reading import dotted
from mlip.training.recipe_file import load_recipe
from mlip.training.sweep import plan_sweep

RECIPES = Path(__file__).parents[2] / "recipes"
GOOD = """
data: {store: STORE}
model: {model: m3gnet, units: 8}
train: {epochs: 2, batch_size: 4, learning_rate: 0.01}
out: run
"""


@pytest.fixture
def recipe_file(tmp_path):
    (tmp_path / "store.h5").touch()

    def write(text: str = GOOD):
        path = tmp_path / "recipe.yaml"
        path.write_text(text.replace("STORE", str(tmp_path / "store.h5")))
        return path

    return write


def mistake(path, *overrides) -> str:
    with pytest.raises(MlipError) as error:
        load_recipe(path, overrides)
    line = str(error.value)
    assert "\n" not in line
    return line


def test_values_on_the_command_line_win(recipe_file):
    recipe = load_recipe(recipe_file(), ["train.learning_rate=3e-3", "model.units=16", "train.clip_norm=null"])
    assert recipe.train.learning_rate == 0.003
    assert recipe.model.units == 16
    assert recipe.train.clip_norm is None


def test_a_misspelt_key_is_answered_with_the_nearest_known_one(recipe_file):
    path = recipe_file(GOOD.replace("learning_rate", "learning_rat"))
    line = mistake(path)
    assert "train.learning_rat" in line
    assert "did you mean train.learning_rate?" in line
    assert str(path) in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("units: 8", "unit: 8"), "did you mean model.units?"),
        (GOOD.replace("out: run", "output: run"), "unknown key output"),
        (GOOD.replace("epochs: 2", "epochs: many"), "train.epochs: input should be a valid integer"),
        (GOOD.replace("batch_size: 4, ", ""), "train.batch_size is missing"),
        (GOOD.replace("model: m3gnet", "model: m3gnat"), "no model is called 'm3gnat'"),
        (GOOD.replace("model: m3gnet, ", ""), "no model is called None"),
        (GOOD + "loss: {energy: 0, forces: 0, stress: 0}", "nothing to fit"),
        (GOOD.replace("epochs: 2", "epochs: 2, schedule: cyclical"), "a cyclical schedule, which needs one"),
        (GOOD.replace("epochs: 2", "epochs: 2, accumulate: 3"), "cannot be cut into 3 equal parts"),
        (GOOD + "stage_two: {after_epoch: 2}", "stage_two.after_epoch is 2, of train.epochs 2"),
        (GOOD + "stage_two: {after_epoch: 1, curvature: 0.1}", "loss.curvature"),
        (GOOD.replace("units: 8", "units: 8, zbl: true"), "set data.statistics.scale to 1"),
        (GOOD + "stage_two: {after_epoc: 1}", "did you mean stage_two.after_epoch?"),
        (GOOD + "loss: {of_functional: {PBE: {force: 1}}}", "did you mean loss.of_functional.PBE.forces?"),
        (GOOD.replace("store: STORE", "store: STORE, replay: {store: STORE, share: 0.5}"), "set init_from"),
        (GOOD.replace("STORE", "[STORE, nowhere.h5]"), "data.store: no such file or folder: nowhere.h5"),
        (GOOD.replace("STORE", "[]"), "data.store is an empty list"),
        (GOOD.replace("STORE", "STORE, weights: {functional: {PBE: 1}, store: [1]}"), "one of store, functional"),
        (GOOD.replace("STORE", "STORE, weights: [-1]"), "greater than 0"),
        (GOOD.replace("STORE", "STORE, weights: [1], replay: {store: STORE, share: 0.5}"), "exclude each other"),
        (GOOD.replace("STORE", "STORE, statistics: {reference_energie: {Cu: 1}}"), "statistics.reference_energies?"),
        (GOOD.replace("STORE", "STORE, statistics: {scale: 0}"), "greater than 0"),
        ("train: [", "not readable as YAML"),
        ("- a list", "a recipe is a mapping"),
        ("", "data is missing"),
    ],
)
def test_each_mistake_is_one_line(recipe_file, text, expected):
    path = recipe_file(text)
    line = mistake(path)
    assert expected in line
    assert str(path) in line


def test_a_mistake_on_the_command_line_is_said_to_be_there(recipe_file):
    assert mistake(recipe_file(), "train.epoch=3").startswith("command line: unknown key train.epoch")
    assert "write key.key=value" in mistake(recipe_file(), "train.epochs")


def test_paths_that_do_not_exist(recipe_file, tmp_path):
    assert "no such recipe" in mistake(tmp_path / "nowhere.yaml")
    assert "no such file or folder" in mistake(recipe_file(), "data.store=/nowhere/store.h5")


def test_the_resolved_recipe_reads_back_as_itself(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file(), ["train.ema_decay=null"])
    recipe.save(tmp_path / "resolved.yaml")
    again = load_recipe(tmp_path / "resolved.yaml")
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()


def test_recipes_and_configs_of_0_1_are_read_in_their_spelling(recipe_file):
    written = {"model": "mace", "elements": [14], "mean_neighbours": 7.0}
    assert parse_config(written).mean_neighbors == 7.0
    for old, new in {"centre": "center", "neighbour": "neighbor"}.items():
        assert parse_config({"model": "m3gnet", "aggregate": old}).aggregate == new
        assert load_recipe(recipe_file(), [f"model.aggregate={old}"]).model.aggregate == new


def test_the_fingerprint_knows_the_result_not_the_folder(recipe_file):
    path = recipe_file()
    fingerprint = load_recipe(path).fingerprint()
    assert load_recipe(path, ["out=elsewhere"]).fingerprint() == fingerprint
    assert load_recipe(path, ["train.seed=1"]).fingerprint() != fingerprint


def small_potential(folder: Path) -> Path:
    config = parse_config({"model": "m3gnet", "units": 4, "n_blocks": 1})
    metadata = PotentialMetadata(reference_energies={"Si": -5.0})
    return Potential(config, init_parameters(config), metadata).save(folder / "small.safetensors")


def test_without_a_model_section_the_network_is_that_of_the_starting_potential(recipe_file, tmp_path):
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith("model"))
    recipe = load_recipe(recipe_file(text), [f"init_from={small_potential(tmp_path)}"])
    assert (recipe.model.units, recipe.model.n_blocks) == (4, 1)
    recipe.save(tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe


@pytest.mark.parametrize("path", sorted((RECIPES / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_of_the_repository_fits_the_recipe_it_names(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stores").mkdir()
    for cutoff in ("0.001", "0.005", "0.010"):
        (tmp_path / f"stores/pbesol_{cutoff}.h5").touch()
    runs = plan_sweep(RECIPES / "m3gnet-pbesol.yaml", [], path)
    assert len({run.recipe.out for run in runs}) == 9


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_can_be_run_as_written(path, tmp_path):
    overrides = [f"data.store={tmp_path}"]
    if "init_from:" in path.read_text():
        overrides.append(f"init_from.potential={small_potential(tmp_path)}")
    if "\n  replay:" in path.read_text():
        overrides.append(f"data.replay.store={tmp_path}")
    recipe = load_recipe(path, overrides)
    jax.eval_shape(lambda: init_parameters(recipe.model))
    recipe.save(tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe


def test_a_recipe_of_the_package_is_known_by_its_name(tmp_path):
    (tmp_path / "store.h5").touch()
    named = load_recipe("m3gnet-pbesol", [f"data.store={tmp_path / 'store.h5'}", f"out={tmp_path}"])
    assert named.model.model == "m3gnet"
    with pytest.raises(MlipError, match=r"m3gnet-pbsol: no such recipe \(did you mean m3gnet-pbesol"):
        load_recipe("m3gnet-pbsol")


def test_a_file_of_the_user_wins_over_a_recipe_of_that_name(recipe_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("train: 3")
    with pytest.raises(MlipError, match="quickstart: "):
        load_recipe("quickstart")


def test_nested_values_are_what_a_command_line_would_say():
    values = {"train": {"epochs": 5, "frozen": ["a/*"]}, "out": Path("runs/x"), "wandb_project": None}
    assert dotted(values) == ["train.epochs=5", 'train.frozen=["a/*"]', 'out="runs/x"', "wandb_project=null"]
