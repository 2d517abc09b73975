"""`mlip benchmark dimers` as a user meets it."""

import json

import pytest

from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from tests.command_line import mlip


def dimers(*arguments):
    return mlip("benchmark", "dimers", *arguments)


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    config = M3GNetConfig(units=4, n_blocks=1)
    metadata = PotentialMetadata(reference_energies={"Cu": -3.0, "Na": -1.0})
    return Potential(config, init_parameters(config), metadata).save(
        tmp_path_factory.mktemp("potential") / "raw.safetensors"
    )


def test_a_failing_pair_is_a_result_and_an_error_only_if_asked(potential, tmp_path):
    """Random networks know no repulsion."""
    run = dimers(potential, "--out", tmp_path)
    assert run.returncode == 0, run.stderr
    assert "0 of 3 pairs of 2 elements pass" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("no hole from 0.5 Å to the first bond: 0.0 % of 3 pairs")
    assert {path.name for path in tmp_path.iterdir()} >= {
        "curves.jsonl",
        "dimers.png",
        "dimers.md",
        "dimers_by_element.md",
        "summary.json",
    }

    strict = dimers(potential, "--elements", "Cu", "--json", "--strict")
    assert strict.returncode == 1
    told = json.loads(strict.stdout)
    assert (told["pairs"], told["pairs_without_hole_to_bond"]) == (1, 0)
    assert told["by_element"][0]["element"] == "Cu"


def test_an_unknown_element_is_one_line(potential):
    run = dimers(potential, "--elements", "Cu,Fe")
    assert run.returncode == 2
    assert run.stderr.startswith("mlip: error: dimers: the potential does not know Fe")
    assert run.stderr.count("\n") == 1
