"""Ctrl-C, and paths that are in the way, end a command in one line."""

import errno
import os
import sys

import pytest

from mlip import cli
from mlip.cli import data_build
from mlip.errors import MlipError


def ends(monkeypatch, capsys, command: str, error: BaseException) -> tuple[int, str]:
    """Exit status and stderr of a command whose work raises `error`."""

    def failing(*_, **__):
        raise error

    monkeypatch.setattr("mlip.training.recipe_file.load_recipe", failing)
    monkeypatch.setattr(data_build, "_build_with_progress", failing)
    monkeypatch.setattr(sys, "argv", ["mlip", *command.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().err


def test_an_interrupted_command_says_how_to_go_on(monkeypatch, capsys):
    said = "after step 9 of 18; run has a checkpoint of step 6."
    assert ends(monkeypatch, capsys, "train r.yaml", KeyboardInterrupt(said)) == (130, f"mlip: interrupted: {said}\n")
    assert ends(monkeypatch, capsys, "data build x --out new.h5", KeyboardInterrupt()) == (
        130,
        "mlip: interrupted: the same command goes on where it was\n",
    )
    assert ends(monkeypatch, capsys, "train r.yaml", KeyboardInterrupt()) == (130, "mlip: interrupted\n")


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.EACCES, "mlip: error: cannot open a/file: Permission denied"),
        (errno.ENOTDIR, "mlip: error: cannot open a/file: Not a directory"),
        (errno.ENOSPC, "mlip: error: cannot write a/file: No space left on device"),
    ],
)
def test_a_path_that_cannot_be_used_is_one_line(monkeypatch, capsys, number, line):
    error = OSError(number, os.strerror(number), "a/file")
    assert ends(monkeypatch, capsys, "train r.yaml", error) == (2, line + "\n")


def test_an_exit_without_an_interrupt_is_left_alone(monkeypatch, capsys):
    assert ends(monkeypatch, capsys, "train r.yaml", MlipError("no")) == (2, "mlip: error: no\n")
    monkeypatch.setattr(sys, "argv", ["mlip", "train", "--help"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
