"""`mlip ensemble`, `mlip calibrate` and what `mlip relax` tells of such potentials, in this process."""

import json
from pathlib import Path

import ase.io
import pytest

import mlip
from mlip.cli.relax import relax
from mlip.cli.uncertainty import calibrate, ensemble
from mlip.errors import MlipError
from mlip.relaxation.results_file import read_results
from tests.uncertain_world import crystals, layer, seeds, write_store


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("seeds")
    return [one.save(folder / f"seed={k}" / "potential.safetensors") for k, one in enumerate(seeds(3, size=0.05))]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "labels.h5", seeds(1, size=0.05)[0])


def test_an_ensemble_is_made_calibrated_and_relaxed_with(files, store, tmp_path, capsys):
    together, sure, out = tmp_path / "three.safetensors", tmp_path / "sure.safetensors", tmp_path / "relaxed"
    ensemble([str(file) for file in files], together)
    assert mlip.load(together).config.n_members == 3
    assert "uncertainty: ensemble" in capsys.readouterr().out
    calibrate(str(together), store, sure, threshold=1e-9, max_frames=200, as_json=True)
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["factors"]}
    assert found["3"]["factor"] > 0
    assert found["any"]["doubtful"] == 1  # so low is the threshold
    ase.io.write(tmp_path / "two.extxyz", [crystals()[0], layer()])
    relax([str(sure), str(tmp_path / "two.extxyz")], out, steps=1)
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].endswith("; 2 not to be trusted")
    assert "do not trust" in printed
    _, records = read_results(out / "results.jsonl")
    assert all(record["do_not_trust"] and record["energy_std"] > 0 for record in records)
    relaxed = ase.io.read(out / "relaxed.extxyz", ":")
    assert all(atoms.info["mlip_energy_std"] > 0 and atoms.info["mlip_do_not_trust"] for atoms in relaxed)


def test_a_single_potential_is_calibrated_by_its_last_layer(files, store, tmp_path, capsys):
    calibrate(str(files[1]), store, tmp_path / "sure.safetensors", max_frames=200)
    assert "90 % of the errors lie within 1.645 standard deviations" in capsys.readouterr().out
    assert mlip.load(tmp_path / "sure.safetensors").uncertainty.kind == "last layer"
    with pytest.raises(MlipError, match="exists"):
        calibrate(str(files[1]), store, tmp_path / "sure.safetensors")


def test_what_is_no_ensemble_is_refused_by_name(files, tmp_path):
    with pytest.raises(MlipError, match=r"seed=0/potential\.safetensors: is the same potential as seed=0/"):
        ensemble([str(files[0]), str(files[0])], tmp_path / "no.safetensors")
    assert not (tmp_path / "no.safetensors").exists()
