"""The command line as a user meets it: exit codes, one line for a mistake, real processes for what only they show."""

import json
import shutil
import subprocess
import sys

import pytest

from mlip import __version__
from mlip.benchmark.intervals import Interval
from mlip.benchmark.tables import Estimate, Table
from mlip.cli.output import console
from mlip.progress import count_bar
from tests import command_line

COMMANDS = ["data", "train", "evaluate", "relax", "benchmark", "convert", "info"]


def mlip(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "mlip.cli", *arguments], capture_output=True, text=True)


def test_help_lists_every_command():
    result = mlip("--help")
    assert result.returncode == 0
    for command in COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = command_line.mlip(command, "--help")
    assert result.returncode == 0
    assert "Usage" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "absent.safetensors"],
        ["convert", "absent", "out.safetensors"],
        ["train", "absent.yaml"],
        ["evaluate", "absent.safetensors", "absent.h5"],
        ["relax", "absent.safetensors", "absent.cif", "--out", "never"],
        ["benchmark", "relaxation", "absent.safetensors", "absent.h5", "--out", "never"],
        ["data", "build", "absent.json.bz2", "--out", "never.h5"],
        ["data", "info", "absent.h5"],
        ["data", "check", "absent.h5"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_path_that_does_not_exist_is_one_line_and_exit_2(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command_line.mlip(*arguments)
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("mlip: error: ")
    assert "absent" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_info_names_the_device_and_the_flags_and_tests_the_installation():
    result = mlip("info", "--json")
    assert result.returncode == 0
    facts = json.loads(result.stdout)
    assert facts["devices"]
    assert "xla_flags" in facts
    assert facts["self-test"] == "passed"


@pytest.mark.parametrize("module", ["mlip", "mlip.cli"])
def test_the_version_is_told(module):
    result = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"mlip {__version__}\n"


def test_converting_something_else_says_what_would_do(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"\x80\x02}q\x00.")
    result = command_line.mlip("convert", str(tmp_path / "model.pth"), str(tmp_path / "out.safetensors"))
    assert result.returncode == 2
    assert "no checkpoint that mlip can convert" in result.stderr
    assert not (tmp_path / "out.safetensors").exists()


def test_convert_then_info_of_a_published_potential(shared, tmp_path):
    out = tmp_path / "m3gnet.safetensors"
    assert command_line.mlip("convert", str(shared / "goldens/m3gnet"), str(out)).returncode == 0
    facts = json.loads(command_line.mlip("info", str(out), "--json").stdout)
    assert facts["model"] == "m3gnet"
    assert facts["parameters"] == 227_549
    assert len(facts["elements"].split()) == 89


def test_a_damaged_checkpoint_is_one_line_and_writes_nothing(shared, tmp_path):
    published = shared / "goldens/m3gnet/checkpoint"
    folder, data = tmp_path / "checkpoint", "m3gnet.data-00000-of-00001"
    folder.mkdir()
    for file in published.iterdir():
        shutil.copyfile(file, folder / file.name)
    altered = bytearray((published / data).read_bytes())
    altered[400_000] ^= 1
    (folder / data).write_bytes(altered)
    result = command_line.mlip("convert", str(folder), str(tmp_path / "out.safetensors"))
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert f"{folder / data}: does not fit its index" in result.stderr
    assert not (tmp_path / "out.safetensors").exists()


def test_convert_says_what_it_decided_and_refuses_what_matgl_cannot_be(shared, tmp_path):
    weights = shared / "goldens/m3gnet_matgl/M3GNet-MP-2021.2.8-PES_weights.npz"
    out = tmp_path / "ours.safetensors"
    result = command_line.mlip("convert", str(weights), str(out))
    assert "note: atom messages are added to the neighbor of a bond" in result.stdout
    back = command_line.mlip("convert", str(out), "--to", "matgl", str(tmp_path / "matgl"))
    assert back.returncode == 2
    assert "would give other energies without a warning" in back.stderr
    assert list(tmp_path.iterdir()) == [out]


def test_brackets_are_printed_as_they_are(capsys):
    shown = console(width=80)
    shown.print("pip install 'alexandria-mlip[phonons]'")
    cells = ("cell[1].cif", Estimate(1.0, 1, Interval(0.5, 2.0)))
    shown.print(Table("t", "[a]", ("file", "K [GPa]"), (cells,), ("see [b]",)).to_rich(80))
    printed = capsys.readouterr().out
    assert "dim" not in printed
    assert all(text in printed for text in ("[a]", "K [GPa]", "0.5…2.0", "see [b]"))
    assert "alexandria-mlip[phonons]" in printed
    assert "cell[1].cif" in printed
    bar = count_bar(shown=False)
    bar.add_task("cell[a].cif :fire:")
    assert bar.columns[0].render(bar.tasks[0]).plain == "cell[a].cif :fire:"
