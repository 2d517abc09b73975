"""Wherever a potential's path is taken, a name will do. The name's file is put into the cache by hand here."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import ase.io
import jax
import numpy as np
import pytest
import typer
from ase.build import bulk
from typer.testing import CliRunner

import mlip
from mlip.cli import models
from mlip.cli.label import load_calculator
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata, open_potential
from mlip.pretrained import default_potential, find, known, split_potential
from mlip.pretrained.obtaining import converted_file
from mlip.property_model import PropertyModel, is_property_model
from mlip.relaxation.relax_files import relax_files
from mlip.screening.screening_recipe import RelaxRecipe
from mlip.training.recipe_file import read_recipe


@pytest.fixture
def in_cache(cache) -> Potential:
    """Of random weights, under the name m3gnet."""
    config = M3GNetConfig(units=4, n_blocks=1, max_atomic_number=17)
    shapes = jax.eval_shape(partial(init_parameters, config))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.1 * rng.normal(size=leaf.shape).astype(np.float32), shapes)
    metadata = PotentialMetadata(reference_energies={"Na": -1.0, "Cl": -2.0}, functional="PBE")
    potential = Potential(config, params, metadata)
    potential.save(converted_file(find("m3gnet")))
    return potential


def test_python_takes_a_name(in_cache):
    for load in (mlip.load, Potential.load, open_potential, lambda name: mlip.MLIPCalculator(name).potential):
        assert load("m3gnet").metadata == in_cache.metadata
    assert load_calculator("m3gnet").potential.metadata == in_cache.metadata


def test_a_potentials_name_is_no_property_model(in_cache):
    assert not is_property_model("m3gnet")
    with pytest.raises(MlipError, match="m3gnet: holds no property model"):
        PropertyModel.load("m3gnet")


def test_training_starts_from_a_name_and_remembers_it(in_cache, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"data: {{store: {tmp_path / 'store.h5'}}}\ninit_from: m3gnet\nout: {tmp_path / 'run'}\n"
        "train: {epochs: 1, batch_size: 4, learning_rate: 0.01}\n"
    )
    resolved = read_recipe(recipe)
    assert resolved.model == in_cache.config
    assert str(resolved.init_from.potential) == "m3gnet"


def test_screening_relaxes_with_a_name(in_cache):
    assert RelaxRecipe(potential="m3gnet").file == converted_file(find("m3gnet"))


def test_relaxations_by_a_name_and_by_its_file_are_one_run(in_cache, tmp_path):
    ase.io.write(tmp_path / "nacl.cif", bulk("NaCl", "rocksalt", a=5.6))
    first = relax_files("m3gnet", [tmp_path / "nacl.cif"], tmp_path / "out", steps=1, progress=False)
    again = relax_files(
        converted_file(find("m3gnet")), [tmp_path / "nacl.cif"], tmp_path / "out", steps=1, progress=False
    )
    assert (first["relaxed_now"], again["relaxed_now"]) == (1, 0)
    header = json.loads((tmp_path / "out/results.jsonl").read_text().splitlines()[0])
    assert "m3gnet-mp-2021.2.8.safetensors" in json.dumps(header)


@pytest.fixture
def command(cache):
    """Runs `mlip models` or `mlip fetch`."""
    app = typer.Typer()
    app.command("models")(models.models)
    app.command("fetch")(models.fetch)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_the_command_line_takes_a_name(in_cache):
    run = [sys.executable, "-m", "mlip.cli", "info", "m3gnet", "--json"]
    assert json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)["elements"] == "Na Cl"


def test_the_table_tells_default_and_what_is_in_the_cache(in_cache, command):
    lines = command("models").stdout.splitlines()
    assert [line.split()[0] for line in lines if " * " in line] == [default_potential()]
    (line,) = (line for line in lines if line.startswith("m3gnet-mp-2021.2.8 "))
    assert line.endswith("in the cache")


def test_the_table_as_json_has_all_that_the_files_have(command):
    listed = {entry["name"]: entry for entry in json.loads(command("models", "--json").stdout)}
    assert [name for name, entry in listed.items() if entry["is_default"]] == [default_potential()]
    assert {entry["state"] for entry in listed.values()} - {"in mlip"} == {"ready", "by hand", "not readable yet"}
    for name, entry in listed.items():
        assert entry.items() >= find(name).model_dump(mode="json").items()


def test_one_potential_is_told_with_how_to_cite_it_and_its_terms(command):
    told = command("models", "mace-omat-0").stdout
    for part in ("arXiv:2401.00096", "academic non-commercial use", "LicenseRef-ASL", find("mace-omat-0").title):
        assert part in told
    assert all(file.sha256 in told for file in find("mace-omat-0").source.files)


@pytest.mark.parametrize("name", known())
def test_each_potential_can_be_told_of(command, name):
    assert command("models", name).exit_code == 0


def test_a_wrong_name_is_an_error(command):
    assert "did you mean m3gnet" in str(command("models", "m3gent").exception)


def test_fetching_tells_the_file(in_cache, command):
    assert command("fetch", "M3GNet").stdout == f"m3gnet-mp-2021.2.8: {converted_file(find('m3gnet'))}\n"


def test_one_that_cannot_be_fetched_does_not_stop_the_others(in_cache, command):
    result = command("fetch", "chgnet-0.3.0", "m3gnet", "chgnet-r2scan", "--json")
    told = json.loads(result.stdout)
    assert list(told["files"]) == ["m3gnet-mp-2021.2.8"]
    assert list(told["errors"]) == ["chgnet-0.3.0", "chgnet-r2scan"]
    assert "chgnet-0.3.0: is known by name, and not readable yet; and 1 more of 3" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "potential", "files"),
    [
        (["nacl.cif"], None, ["nacl.cif"]),
        (["POSCAR"], None, ["POSCAR"]),
        (["nacl.cif", "POSCAR"], None, ["nacl.cif", "POSCAR"]),
        (["absent.cif", "nacl.cif"], None, ["absent.cif", "nacl.cif"]),
        (["m3gnet", "nacl.cif"], "m3gnet", ["nacl.cif"]),
        (["mine.safetensors", "nacl.cif"], "mine.safetensors", ["nacl.cif"]),
        (["absent.safetensors", "nacl.cif"], "absent.safetensors", ["nacl.cif"]),
        (["m3gent", "nacl.cif"], "m3gent", ["nacl.cif"]),
        (["m3gnet-mp-2021.2.9", "nacl.cif"], "m3gnet-mp-2021.2.9", ["nacl.cif"]),
        (["checkpoint", "nacl.cif"], "checkpoint", ["nacl.cif"]),
        (["their.model", "nacl.cif"], "their.model", ["nacl.cif"]),
    ],
)
def test_a_potential_may_be_left_out_before_files(tmp_path, monkeypatch, arguments, potential, files):
    monkeypatch.chdir(tmp_path)
    for name in ("nacl.cif", "POSCAR"):
        Path(name).write_text("Na Cl with more than nine letters")
    Path("mine.safetensors").write_bytes((16).to_bytes(8, "little") + b"{}")
    Path("their.model").write_bytes(b"PK\x03\x04 and more")
    Path("checkpoint").mkdir()
    for name in ("model.json", "state.pt"):
        Path("checkpoint", name).touch()
    assert split_potential(arguments) == (potential or default_potential(), files)


def test_a_potential_without_files_says_so():
    with pytest.raises(MlipError, match="m3gnet: a potential, and no file with structures"):
        split_potential(["m3gnet"])
