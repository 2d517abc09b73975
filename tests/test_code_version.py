"""Processes that must have the same code compare what the code is, not its version, which moves with releases only."""

import shutil
from pathlib import Path

import pytest

import mlip
from mlip.code_version import CODE_VERSION, check_same_code, source_version
from mlip.data import parts
from mlip.data.build import BuildSettings, build
from mlip.data.parts import build_part_elsewhere
from mlip.errors import MlipError

PACKAGE = Path(mlip.__file__).parent


@pytest.fixture
def copied(tmp_path) -> Path:
    return shutil.copytree(PACKAGE, tmp_path / "mlip", ignore=shutil.ignore_patterns("__pycache__"))


def test_a_copy_of_the_sources_elsewhere_is_the_same_code(copied):
    assert source_version(copied) == source_version() == CODE_VERSION
    assert CODE_VERSION.startswith(mlip.__version__ + "+")


@pytest.mark.parametrize("change", ["a character", "a new file", "a file's name"])
def test_any_change_of_the_sources_is_another_version(copied, change):
    if change == "a character":
        path = copied / "relaxation" / "fire.py"
        path.write_text(path.read_text().replace("0.5", "0.6", 1))
    elif change == "a new file":
        (copied / "models" / "new.py").write_text("")
    else:
        (copied / "units.py").rename(copied / "unit.py")
    assert source_version(copied) != CODE_VERSION


def test_a_worker_of_the_same_version_number_with_other_sources_is_refused(tmp_path):
    other = f"{mlip.__version__}+0123456789abcdef"
    with pytest.raises(MlipError, match=r"a worker has mlip .*\+.*, this process .*0123456789abcdef"):
        check_same_code(other)
    with pytest.raises(MlipError, match="this process"):
        build_part_elsewhere(parts.Part(0, ()), tmp_path, BuildSettings(), other)


def test_parts_that_other_code_has_built_are_built_again(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    for k, a in enumerate((3.6, 3.7)):
        header = f'Lattice="{a} 0 0 0 {a} 0 0 0 {a}" Properties=species:S:1:pos:R:3 energy=-3.7 pbc="T T T"'
        (source / f"{k}.extxyz").write_text(f"1\n{header}\nCu 0 0 0\n")
    original = parts.build_part

    def failing(part, *arguments, **options):
        """The last part fails, so that the build leaves the first one."""
        if part.index == 1:
            raise OSError("no more")
        original(part, *arguments, **options)

    monkeypatch.setattr("mlip.data.build.build_part", failing)

    def resumed() -> list[int]:
        """How many parts a build goes on with."""
        told = []
        with pytest.raises(OSError, match="no more"):
            build(
                [source],
                tmp_path / "s.h5",
                BuildSettings(functional="PBE"),
                part_bytes=1,
                on_resumed=lambda done, n: told.append(done),
            )
        return told

    assert resumed() == []
    assert resumed() == [1]
    monkeypatch.setattr("mlip.data.build.CODE_VERSION", "0.1.0+another")
    assert resumed() == []
