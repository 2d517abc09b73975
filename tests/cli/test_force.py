"""No command overwrites what it has not made, unless it is told to."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import mlip
from mlip.cli.convert import convert
from mlip.cli.data import app
from mlip.cli.runs import export, report
from mlip.errors import MlipError
from mlip.files.output_paths import check_new, make_folder
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from tests.emt_world import emt_frames, write_store

commands = typer.Typer()
commands.add_typer(app)
commands.command("convert")(convert)
commands.command("report")(report)
commands.command("export-run")(export)


def run(*arguments):
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "store.h5", emt_frames(4, seed=3), n_validation=1)


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    config = M3GNetConfig(units=8)
    energies = dict.fromkeys(("Cu", "Al", "Ni", "Ag"), -3.0)
    metadata = PotentialMetadata(reference_energies=energies)
    return Potential(config, init_parameters(config), metadata).save(tmp_path_factory.mktemp("p") / "p.safetensors")


@pytest.fixture
def arguments(store, potential, tmp_path):
    """Of each command, what it needs beside its output; the output stands last."""
    source = tmp_path / "source.extxyz"
    run("export", store, source)
    copper = tmp_path / "copper.extxyz"
    copper.write_text('1\nLattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3 pbc="T T T"\nCu 0 0 0\n')
    return {
        "build": ("build", source, "--workers", 1, "--out", tmp_path / "out.h5"),
        "hdf5": ("build", source, "--workers", 1, "--out", tmp_path / "out.hdf5"),
        "export": ("export", store, tmp_path / "out.extxyz"),
        "relabel": ("relabel", potential, store, "--out", tmp_path / "out.h5"),
        "label": (
            *("label", copper, "--calculator", "ase.calculators.emt:EMT", "--steps", 0),
            *("--out", tmp_path / "out.json"),
        ),
        "info": ("info", store, "--plot", tmp_path / "out.png"),
        "convert": ("convert", potential, "--head", "default", tmp_path / "out.safetensors"),
    }


@pytest.mark.parametrize("command", ["build", "hdf5", "export", "relabel", "label", "info", "convert"])
def test_what_exists_is_replaced_by_force_only(arguments, command):
    words = arguments[command]
    out = words[-1]
    out.write_bytes(b"somebody's work")
    refused = run(*words)
    assert isinstance(refused.exception, MlipError)
    assert str(refused.exception) == f"{out}: exists already (--force replaces it; or name another file)"
    assert out.read_bytes() == b"somebody's work"
    done = run(*words, "--force")
    assert done.exit_code == 0, (done.output, done.exception)
    assert out.read_bytes() != b"somebody's work"


def test_a_store_that_was_built_is_built_again(arguments):
    words = arguments["build"]
    first, again = run(*words), run(*words, "--split", "1,0,0")
    assert (first.exit_code, again.exit_code) == (0, 0)
    with mlip.Store(words[-1]) as store:
        assert {material.split for material in store.materials()} == {"train"}


def test_labeling_goes_on_with_its_own_output(arguments):
    words = arguments["label"]
    for _ in range(2):
        assert run(*words).exit_code == 0


def test_a_build_into_an_hdf5_file_is_a_store_to_every_command(arguments):
    words = arguments["hdf5"]
    built = run(*words)
    assert built.exit_code == 0, built.exception
    out = words[-1]
    assert len(mlip.Store(out)) == 4
    assert run("info", out).exit_code == run("check", out).exit_code == 0
    assert "kept" in built.output
    assert run("info", out, "--subsample", "0,inf").exit_code == 0


@pytest.mark.parametrize("words", [("report",), ("export-run",)])
def test_a_folder_without_a_run_is_told_and_not_made(tmp_path, words):
    found = run(*words, tmp_path / "absent")
    assert "holds no run" in str(found.exception)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("path", ["file/out.h5", "file/a/b/out.h5"])
def test_a_place_below_a_file_is_one_line_that_names_the_file(tmp_path, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MlipError, match=rf"cannot be made: {tmp_path}/file is a file, not a folder"):
        check_new(tmp_path / path, force=False)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]
    check_new(tmp_path / "new" / "out.h5", force=False)
    assert not (tmp_path / "new").exists()
    with pytest.raises(MlipError, match="is a folder"):
        check_new(tmp_path, force=True)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_that_nobody_can_make_is_one_line():
    with pytest.raises(MlipError, match="/proc/mlip/out: cannot be made: "):
        make_folder(Path("/proc/mlip/out"))
