"""`mlip relax` as a user meets it: files in, relaxed.extxyz and a record a structure out."""

import json
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mlip.models.m3gnet import M3GNetConfig
from mlip.potential import Potential, PotentialMetadata, init_params
from mlip.relaxation.results_file import read_results


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
    _, records = read_results(out / "results.jsonl")
    records.sort(key=lambda record: record["structure"])
    assert [(r["frame"], r["reason"] == "error") for r in records] == [(0, False), (0, True), (1, False)]
    relaxed = ase.io.read(out / "relaxed.extxyz", ":")
    assert [len(atoms) for atoms in relaxed] == [2, 1, 2]
    assert relaxed[0].get_potential_energy() == pytest.approx(records[0]["energy"])


def test_a_run_killed_with_signal_9_goes_on_with_no_structure_lost_or_relaxed_twice(potential, tmp_path):
    crystals = [bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (2, 2, 2) for _ in range(24)]
    for seed, crystal in enumerate(crystals):
        crystal.rattle(0.05, seed=seed)
    ase.io.write(tmp_path / "salts.extxyz", crystals)
    ase.io.write(tmp_path / "xenon.cif", bulk("Xe", "fcc", a=6.2))
    arguments = ["relax", potential, tmp_path / "salts.extxyz", tmp_path / "xenon.cif", "--steps", 20, "--out"]
    results = tmp_path / "out" / "results.jsonl"

    first = subprocess.Popen([sys.executable, "-m", "mlip.cli", *map(str, arguments), str(results.parent)])
    while first.poll() is None and n_lines(results) < 6:
        time.sleep(0.01)
    first.kill()  # SIGKILL: nothing can be tidied up
    first.wait()
    survived = results.read_bytes()
    survived = survived[: survived.rfind(b"\n") + 1]
    n_done = survived.count(b"\n") - 1
    assert 5 <= n_done < 25
    with results.open("ab") as file:
        file.write(survived.splitlines()[-1][:50])  # the kill came within a line

    second = mlip(*arguments, results.parent, "--json")
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["relaxed_now"] == 25 - n_done
    assert results.read_bytes().startswith(survived)
    _, records = read_results(results)
    assert sorted(record["structure"] for record in records) == list(range(25))

    whole = mlip(*arguments, tmp_path / "uninterrupted", "--json")
    assert whole.returncode == 0, whole.stderr
    pairs = [ase.io.read(folder / "relaxed.extxyz", ":") for folder in (results.parent, tmp_path / "uninterrupted")]
    for resumed, uninterrupted in zip(*pairs, strict=True):
        assert resumed.info["reason"] == uninterrupted.info["reason"]
        # float32; the company in the batch differs, and with it the order of sums
        np.testing.assert_allclose(resumed.positions, uninterrupted.positions, atol=1e-3)


def n_lines(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_another_protocol_is_not_mixed_into_the_results(potential, tmp_path):
    ase.io.write(tmp_path / "xenon.cif", bulk("Xe", "fcc", a=6.2))  # unknown to the potential: nothing compiles
    arguments = ["relax", potential, tmp_path / "xenon.cif", "--out", tmp_path / "out"]
    assert mlip(*arguments).returncode == 0
    again = mlip(*arguments, "--fmax", 0.01)
    assert again.returncode == 2
    assert "holds results of another relaxation" in again.stderr
    ase.io.write(tmp_path / "xenon.cif", bulk("Xe", "fcc", a=6.3))
    assert "holds results of another inputs" in mlip(*arguments).stderr


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
