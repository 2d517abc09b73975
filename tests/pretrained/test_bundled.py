"""A potential whose weights come with mlip: no network, no cache, no question; and it is what none given means."""

import json

import ase.io
import pytest
import typer
import yaml
from ase.build import bulk
from typer.testing import CliRunner

import mlip
from mlip.calculator import MLIPCalculator
from mlip.cli import models
from mlip.cli.relax import relax as relax_command
from mlip.errors import MlipError
from mlip.potential import Potential
from mlip.pretrained import declared_name, default_potential, find, known, obtain, registry, resolve
from mlip.pretrained.entry import PretrainedEntry
from mlip.pretrained.registry import is_known
from mlip.relaxation.named import open_named
from mlip.screening.screening_recipe import RelaxRecipe
from mlip.training.recipe import InitRecipe
from tests.bundled_potential import NAME, random_potential, write_registry


@pytest.fixture
def command(bundled):
    """Runs `mlip models`, `mlip fetch` or `mlip relax`."""
    app = typer.Typer()
    app.command("models")(models.models)
    app.command("fetch")(models.fetch)
    app.command("relax")(relax_command)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def salt():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.rattle(0.02, seed=0)
    return atoms


def test_its_file_is_used_where_it_lies(bundled, cache, capfd):
    for name in (NAME, "placeholder", "Placeholder-1", "default", "Default"):
        assert obtain(name) == resolve(name) == bundled
    assert not cache.exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("open_default", [mlip.load, Potential.load, lambda: MLIPCalculator().potential])
def test_python_takes_the_default_where_none_is_given(bundled, open_default, capfd):
    potential = open_default()
    assert potential.fingerprint == random_potential().fingerprint
    assert capfd.readouterr() == ("", "")


def test_relaxing_takes_the_default_and_the_results_tell_which(bundled, capfd):
    results = mlip.relax(salt(), steps=1, progress=False)
    assert results.potential == {"name": NAME, "functional": "PBE", "license": "MIT"}
    assert f"by {NAME}, PBE, MIT" in results._repr_html_()
    assert capfd.readouterr() == ("", "")
    (given,) = mlip.relax(salt(), bundled, steps=1, progress=False)
    assert results[0].energy == given.energy


def test_what_was_loaded_tells_its_name_functional_and_license(bundled):
    for shown in (repr(mlip.load()), mlip.load()._repr_html_(), repr(MLIPCalculator())):
        assert all(fact in shown for fact in (NAME, "PBE", "MIT"))


def test_the_command_relaxes_with_it_and_says_so(command, tmp_path):
    ase.io.write(tmp_path / "nacl.cif", salt())
    result = command("relax", tmp_path / "nacl.cif", "--out", tmp_path / "out", "--steps", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{NAME}: functional PBE, license MIT (mlip models {NAME})\n")
    header = json.loads((tmp_path / "out/results.jsonl").read_text().splitlines()[0])
    assert f"{NAME}.safetensors" in json.dumps(header)


def test_commands_that_want_a_potential_named_take_the_word_default(bundled):
    named = open_named("default")
    assert (named.name, named.license) == (NAME, "MIT")


def test_what_is_written_down_has_the_potentials_own_name(bundled, tmp_path, monkeypatch):
    """A later version of mlip may have another default."""
    assert str(InitRecipe.model_validate("default").potential) == NAME
    assert str(RelaxRecipe(potential="Default").potential) == NAME
    assert declared_name("m3gnet") == "m3gnet"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").touch()
    assert declared_name("default") == "default"


def test_there_is_nothing_to_fetch(command, bundled, cache):
    assert command("fetch", "default").stdout == f"{NAME}: came with mlip, there is nothing to fetch {bundled}\n"
    assert json.loads(command("fetch", NAME, "--json").stdout) == {
        "files": {NAME: str(bundled)},
        "errors": {},
        "in_mlip": [NAME],
    }
    assert not (cache / "pretrained").exists()


def test_the_table_says_that_it_is_in_mlip(command):
    (line,) = (line for line in command("models").stdout.splitlines() if line.startswith(f"{NAME} *"))
    assert line.endswith("in mlip")


def test_the_model_card_tells_from_what_it_learned_its_errors_and_where_not_to_use_it(command, bundled):
    told = " ".join(command("models", "default").stdout.split())
    for part in (
        "teacher teacher-1 (mlip models teacher-1)",
        "learned from labels of Teacher 1; MIT; cite doi:10.0/teacher",
        "learned from crystals, 12,345 frames; CC-BY-4.0; cite doi:10.0/crystals",
        "errors on crystals energy 60 meV/atom, relative volume after relaxation 3.5 %, failed relaxations 0 %",
        "forces 0.02 eV/A, slope of the forces 0.97 (mean absolute, 1,000 materials, against teacher-1)",
        "not for magnetism: it knows no moments",
        "not for molecules",
        "hardly knows elements with fewer than 100 training frames: Na (7)",
        "frames Na 7, Cl 12,000",
        "made by datasets/default/make.sh",
        f"file {bundled}",
        "state in mlip",
    ):
        assert part in told


def test_the_model_card_as_json(command, bundled):
    told = json.loads(command("models", "default", "--json").stdout)
    assert told["card"]["frames_by_element"] == {"Na": 7, "Cl": 12000}
    assert (told["name"], told["state"], told["file"], told["is_default"]) == (NAME, "in mlip", str(bundled), True)
    assert told["bytes"] == bundled.stat().st_size


def test_weights_that_are_missing_or_altered_say_how_to_mend_the_installation(bundled):
    content = bundled.read_bytes()
    bundled.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(MlipError, match=rf"{NAME}: .*its sha256 is .* \(install mlip anew: pip install --force-rein"):
        mlip.load()
    bundled.unlink()
    with pytest.raises(MlipError, match=f"{NAME}: this installation of mlip has no "):
        mlip.load()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"converter": "m3gnet"}, "converter of a bundled potential"),
        ({"card": None}, "has a model card"),
        ({"card": {"frames_by_element": {"Xx": 1}}}, "'Xx' is no element"),
        ({"card": {"warnings": []}}, "card.warnings"),
        ({"source": {"package": "chgnet"}}, "comes from nowhere else"),
        ({"source": {"is_pickle": True}}, "one .safetensors file"),
        ({"file": {"sha256": None}}, "its bytes and sha256 are missing"),
        ({"file": {"urls": ["https://nowhere.invalid/weights"]}}, "comes from nowhere else"),
        ({"file": {"name": "weights.pt"}}, "one .safetensors file"),
    ],
)
def test_an_entry_with_weights_is_checked(bundled, changes, message):
    values = yaml.safe_load((bundled.parents[1] / f"{NAME}.yaml").read_text())
    values["source"]["files"][0] |= changes.pop("file", {})
    for key, change in changes.items():
        values[key] = values[key] | change if isinstance(change, dict) else change
    with pytest.raises(ValueError, match=message):
        PretrainedEntry.model_validate(values)


def test_no_other_potential_may_be_called_default(bundled, tmp_path, monkeypatch):
    write_registry(tmp_path / "registry", aliases=["default"])
    for function in (registry.known, registry._names):
        function.cache_clear()
    with pytest.raises(MlipError, match="no potential is called default"):
        known()


def test_the_declared_default_also_goes_by_the_name_default():
    assert is_known("default")
    assert find("default").name == default_potential()


BUNDLED = [entry for entry in known().values() if entry.source.bundled]


@pytest.mark.parametrize("entry", BUNDLED, ids=[entry.name for entry in BUNDLED])
def test_weights_that_come_with_mlip_are_what_their_entry_says(entry):
    potential = mlip.load(entry.name)
    provenance = potential.metadata.provenance
    assert (provenance["name"], provenance["license"]) == (entry.name, entry.license.id)
    assert (potential.functional, potential.n_parameters) == (entry.functional, entry.parameters)
    assert len(potential.elements) == entry.elements
    assert set(potential.elements) <= set(entry.card.frames_by_element)
    assert entry.card.teacher is None or is_known(entry.card.teacher)
    assert entry.errors
