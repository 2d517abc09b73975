"""`mlip relax` as a user meets it: files in, relaxed.extxyz and a record a structure out."""

import json
import subprocess
import sys

import ase.io
import pytest
from ase.build import bulk

from mlip.models.m3gnet import M3GNetConfig
from mlip.potential import Potential, PotentialMetadata, init_params


def mlip(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "mlip.cli", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    config = M3GNetConfig(units=8)
    metadata = PotentialMetadata(reference_energies={"Na": -1.0, "Cl": -2.0}, scale=0.1)
    return Potential(config, init_params(config), metadata).save(
        tmp_path_factory.mktemp("potential") / "tiny.safetensors"
    )


def test_files_of_any_format_are_relaxed_in_order_and_failures_are_records(potential, tmp_path):
    salt, xenon = bulk("NaCl", "rocksalt", a=5.6), bulk("Xe", "fcc", a=6.2)
    ase.io.write(tmp_path / "salt.cif", salt)
    ase.io.write(tmp_path / "two.extxyz", [xenon, salt])
    out = tmp_path / "out"
    run = mlip("relax", potential, tmp_path / "salt.cif", tmp_path / "two.extxyz", "--out", out, "--steps", 3, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["structures"] == 3
    records = [json.loads(line) for line in (out / "results.jsonl").open()]
    assert [(r["frame"], r["reason"] == "error") for r in records] == [(0, False), (0, True), (1, False)]
    relaxed = ase.io.read(out / "relaxed.extxyz", ":")
    assert [len(atoms) for atoms in relaxed] == [2, 1, 2]
    assert relaxed[0].get_potential_energy() == pytest.approx(records[0]["energy"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("empty.extxyz", "", "ASE cannot read it"), ("words.cif", "data_\n", "words.cif: ")],
)
def test_a_file_without_structures_is_one_line(potential, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    run = mlip("relax", potential, tmp_path / name, "--out", tmp_path / "out")
    assert run.returncode == 2
    assert len(run.stderr.strip().splitlines()) == 1
    assert message in run.stderr


def test_a_cell_choice_that_is_none_is_one_line(potential, tmp_path):
    run = mlip("relax", potential, "x.cif", "--out", tmp_path / "out", "--cell", "isotropic")
    assert run.returncode == 2
    assert "--cell: unknown cell choice 'isotropic'" in run.stderr
