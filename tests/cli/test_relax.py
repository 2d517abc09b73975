"""`mlip relax` as a user meets it: files in, relaxed.extxyz and a record a structure out."""

import json
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.potential import Potential, PotentialMetadata, init_params
from mlip.relaxation.files import relax_files
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
    files = [tmp_path / "salts.extxyz", tmp_path / "xenon.cif"]
    results = tmp_path / "out" / "results.jsonl"

    arguments = ["relax", potential, *files, "--steps", 20, "--out", results.parent]
    first = subprocess.Popen([sys.executable, "-m", "mlip.cli", *map(str, arguments)])
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

    assert relax_files(potential, files, results.parent, steps=20, progress=False)["relaxed_now"] == 25 - n_done
    assert results.read_bytes().startswith(survived)
    _, records = read_results(results)
    assert sorted(record["structure"] for record in records) == list(range(25))

    relax_files(potential, files, tmp_path / "uninterrupted", steps=20, progress=False)
    pairs = [ase.io.read(folder / "relaxed.extxyz", ":") for folder in (results.parent, tmp_path / "uninterrupted")]
    for resumed, uninterrupted in zip(*pairs, strict=True):
        assert resumed.info["reason"] == uninterrupted.info["reason"]
        # float32; the company in the batch differs, and with it the order of sums
        np.testing.assert_allclose(resumed.positions, uninterrupted.positions, atol=1e-3)


def n_lines(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_another_protocol_is_not_mixed_into_the_results(potential, tmp_path):
    ase.io.write(tmp_path / "xenon.cif", bulk("Xe", "fcc", a=6.2))  # unknown to the potential: nothing compiles
    arguments = (potential, [tmp_path / "xenon.cif"], tmp_path / "out")
    relax_files(*arguments, progress=False)
    with pytest.raises(MlipError, match="holds results of another relaxation"):
        relax_files(*arguments, fmax=0.01, progress=False)
    ase.io.write(tmp_path / "xenon.cif", bulk("Xe", "fcc", a=6.3))
    with pytest.raises(MlipError, match="holds results of another inputs"):
        relax_files(*arguments, progress=False)


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


def test_symmetry_pressure_and_guards_are_options_that_the_results_tell(potential, tmp_path):
    salt = bulk("NaCl", "rocksalt", a=5.6)
    salt.positions[1] += [0.004, 0, 0]
    ase.io.write(tmp_path / "salt.cif", salt)
    options = ("--symmetry", "--pressure-gpa", 2, "--max-strain", 0.5, "--min-distance", 0.4, "--steps", 2)
    run = mlip("relax", potential, tmp_path / "salt.cif", "--out", tmp_path / "out", *options)
    assert run.returncode == 0, run.stderr
    header, (record,) = read_results(tmp_path / "out" / "results.jsonl")
    told = {"symmetry": True, "pressure_gpa": 2.0, "max_strain": 0.5, "min_distance": 0.4, "steps": 2}
    assert told.items() <= header["relaxation"].items()
    sodium, chlorine = np.array(record["positions"])
    lattice_vector = 2 * (chlorine - sodium) @ np.linalg.inv(record["cell"])
    np.testing.assert_allclose(lattice_vector, np.round(lattice_vector), atol=1e-6)  # half way again


def test_a_cell_choice_that_is_none_is_one_line(potential, tmp_path):
    run = mlip("relax", potential, "x.cif", "--out", tmp_path / "out", "--cell", "isotropic")
    assert run.returncode == 2
    assert "--cell: unknown cell choice 'isotropic'" in run.stderr


def test_no_potential_is_one_line_and_leaves_nothing_behind(tmp_path):
    ase.io.write(tmp_path / "salt.cif", bulk("NaCl", "rocksalt", a=5.6))
    run = mlip("relax", tmp_path / "absent.safetensors", tmp_path / "salt.cif", "--out", tmp_path / "out")
    assert run.returncode == 2
    assert "absent.safetensors: no such potential" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
