"""`mlip screen` as a user meets it."""

import json

import ase.io
import pytest
from ase.build import bulk

from tests.command_line import mlip
from tests.conftest import REPOSITORY

RECIPE = REPOSITORY / "recipes" / "screening" / "ternaries.yaml"


@pytest.fixture
def overrides(tiny_cgat, tmp_path) -> list[str]:
    (tmp_path / "cifs").mkdir()
    ase.io.write(tmp_path / "cifs" / "rocksalt.cif", bulk("NaCl", "rocksalt", a=5.6))
    model = tiny_cgat.save(tmp_path / "cgat.safetensors")
    return [
        f"model={model}",
        f"prototypes.source={tmp_path / 'cifs'}",
        "elements.among=[Li,Na,F,Cl]",
        "keep.below=100",
        "relax=null",
        f"out={tmp_path / 'round'}",
    ]


def test_a_recipe_is_counted_first_and_screened_then(overrides, tmp_path):
    counted = mlip("screen", RECIPE, *overrides, "--dry-run", "--json")
    assert counted.returncode == 0, counted.stderr
    assert json.loads(counted.stdout)["candidates"] == 6
    assert not (tmp_path / "round").exists()
    screened = mlip("screen", RECIPE, *overrides)
    assert screened.returncode == 0, screened.stderr
    assert "candidates.csv" in screened.stdout
    assert len(list((tmp_path / "round" / "cifs").iterdir())) == 6


def test_a_mistake_is_one_line(overrides):
    run = mlip("screen", RECIPE, *overrides, "kep.below=1")
    assert run.returncode == 2
    assert run.stderr.strip() == "mlip: error: command line: unknown key kep (did you mean keep?)"
