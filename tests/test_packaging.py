"""The wheel holds all that is not code, weights included, and stays small."""

import ast
import io
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from mlip.pretrained import known
from tests.conftest import REPOSITORY

LARGEST = 8_000_000
"""Bytes of the wheel."""
NOT_CODE = (
    "mlip/py.typed",
    "mlip/pretrained/m3gnet-mp-2021.2.8.yaml",
    "mlip/pretrained/licenses/ASL.txt",
    "mlip/recipes/quickstart.yaml",
    "mlip/datasets/mptrj.yaml",
    "mlip/report/page.css",
)


@pytest.fixture(scope="module")
def contents() -> dict[str, Path]:
    """Place in the wheel -> file: the package without what git ignores, and what pyproject.toml adds."""
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    (package,) = build["targets"]["wheel"]["packages"]
    files = {path: REPOSITORY / path for path in _not_ignored(package)}
    for source, place in build["targets"]["wheel"]["force-include"].items():
        path = REPOSITORY / source
        found = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        files |= {str(Path(place) / one.relative_to(path)): one for one in found}
    return files


def _not_ignored(folder: str) -> list[str]:
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("no checkout: git tells which files are ignored")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for path in listed if (REPOSITORY / path).is_file()]


def test_the_wheel_holds_what_is_not_code(contents):
    assert set(NOT_CODE) <= set(contents)


def test_the_wheel_holds_the_weights_that_come_with_mlip(contents):
    bundled = [f"mlip/pretrained/weights/{file.name}" for entry in _bundled() for file in entry.source.files]
    held = [path for path in contents if path.startswith("mlip/pretrained/weights/")]
    assert sorted(held) == sorted(bundled)  # none is missing, and none is without an entry
    ignored = ["git", "check-ignore", "--no-index", "--quiet", "mlip/pretrained/weights/any.safetensors"]
    assert subprocess.run(ignored, cwd=REPOSITORY).returncode == 1


def test_the_weights_that_come_with_mlip_are_small():
    assert sum(entry.bytes for entry in _bundled()) <= 4_000_000


def test_the_wheel_is_small(contents):
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, path in contents.items():
            archive.write(path, place)
    assert wheel.tell() < LARGEST


def test_the_build_takes_the_same_files(contents):
    wheel = pytest.importorskip(
        "hatchling.builders.wheel", reason="hatchling, which builds the wheel, is not installed"
    )
    builder = wheel.WheelBuilder(str(REPOSITORY))
    built = {file.distribution_path for file in builder.recurse_included_files()}
    assert {str(Path(place)) for place in built} == set(contents)


def _bundled():
    return [entry for entry in known().values() if entry.source.bundled]


def test_what_a_module_imports_at_once_is_a_declared_dependency():
    """Other packages bring more with them in a developer's environment than in a user's."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.match(r"[\w.-]+", one).group().lower().replace("_", "-") for one in project["dependencies"]}
    distributions = packages_distributions()
    foreign = {
        (name, path)
        for path in sorted((REPOSITORY / "mlip").rglob("*.py"))
        for name in _imported_at_once(path)
        if name not in (*sys.stdlib_module_names, "mlip", "jaxlib")  # jaxlib is part of jax
        and declared.isdisjoint(one.lower().replace("_", "-") for one in distributions.get(name, ()))
    }
    assert foreign <= {("distributed", REPOSITORY / "mlip/cluster/plugin.py")}  # which Dask's workers alone import


def _imported_at_once(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]
