"""`mlip benchmark eos`: curves of known shape against a potential's, failures counted, runs that go on."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.benchmark.eos_benchmark import LEAST_POINTS, read_curves, run_eos_benchmark
from mlip.errors import MlipError
from mlip.relaxation.results_file import read_results
from tests.command_line import mlip

EMT_NAME = "ase:ase.calculators.emt:EMT"


def curve(symbol: str, a: float, ratios: np.ndarray, shift: float, stretch: float) -> list[Atoms]:
    """A crystal at some volumes, with the energies that EMT has at volumes stretched by so much, and a shift."""
    frames = []
    for ratio in ratios:
        atoms = bulk(symbol, "fcc", a=a * ratio ** (1 / 3))
        elsewhere = bulk(symbol, "fcc", a=a * (ratio / stretch) ** (1 / 3))
        elsewhere.calc = EMT()
        atoms.calc = SinglePointCalculator(atoms, energy=elsewhere.get_potential_energy() + shift)
        atoms.info = {"run_id": symbol, "functional": "PBE"}
        frames.append(atoms)
    return frames


@pytest.fixture
def source(tmp_path):
    """Two curves of copper under one id, one of aluminum that ends before its minimum, one of an element without
    parameters, and four frames, which are too few."""
    ratios = np.linspace(0.9, 1.12, 9)
    frames = [
        *curve("Cu", 3.6, ratios, 5.0, 1.0),
        *curve("Cu", 3.6, ratios, 0.0, 1.02),
        *curve("Al", 4.0, np.linspace(0.7, 0.8, 6), 0.0, 1.0),
        *(xenon(ratio) for ratio in ratios),
        *curve("Ag", 4.1, ratios[:4], 0.0, 1.0),
    ]
    path = tmp_path / "curves.extxyz"
    write(path, frames)
    return path


def xenon(ratio: float) -> Atoms:
    atoms = bulk("Xe", "fcc", a=6.2 * ratio ** (1 / 3))
    atoms.calc = SinglePointCalculator(atoms, energy=(ratio - 1) ** 2)
    atoms.info = {"run_id": "Xe", "functional": "PBE"}
    return atoms


def test_curves_begin_anew_where_the_volume_falls(source):
    curves = read_curves(source)
    assert {curve.id: len(curve.structures) for curve in curves} == {"Cu #1": 9, "Cu #2": 9, "Al": 6, "Xe": 9}
    assert all((np.diff(curve.volumes) > 0).all() for curve in curves)
    assert LEAST_POINTS == 5


def test_errors_are_those_that_the_curves_were_made_with(source, tmp_path):
    out = tmp_path / "out"
    run = mlip("benchmark", "eos", EMT_NAME, source, "--out", out, "--json", "--allow-functional-mismatch")
    assert run.returncode == 0, run.stderr
    (row,) = json.loads(run.stdout)
    _, records = read_results(out / "results.jsonl")
    found = {record["id"]: record for record in records}
    same, stretched = found["Cu #1"], found["Cu #2"]
    assert same["reason"] == stretched["reason"] == "ok"
    assert same["shape"] == pytest.approx(0, abs=1e-4)  # a shift of the energy is no error of the shape
    assert same["predicted"]["bulk_modulus"] == pytest.approx(same["reference"]["bulk_modulus"], rel=1e-6)
    ratio = stretched["predicted"]["volume"] / stretched["reference"]["volume"]
    assert ratio == pytest.approx(1 / 1.02, rel=2e-3)
    assert stretched["shape"] > 1e-3
    assert found["Al"]["reason"] == "no_reference"
    assert found["Xe"]["reason"] == "error"
    assert "Xe" in found["Xe"]["message"]
    assert (row["curves"], row["compared"]) == ("4", "2")
    assert "1 no_reference" in row["not converged"]
    assert "1 error" in row["not converged"]
    assert row["V0: MPE %"]["value"] == pytest.approx(100 * (ratio - 1) / 2, abs=0.02)


def test_a_run_goes_on_and_is_not_mixed_with_another(source, tmp_path):
    out = tmp_path / "out"
    first = run_eos_benchmark(EMT_NAME, source, out, allow_functional_mismatch=True, progress=False)
    content = (out / "results.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    (out / "results.jsonl").write_bytes(b"".join(lines[:2]))
    again = run_eos_benchmark(EMT_NAME, source, out, allow_functional_mismatch=True, progress=False)
    assert again.records == first.records
    other = EMT_NAME + "?asap_cutoff=true"
    with pytest.raises(MlipError, match="another potential"):
        run_eos_benchmark(other, source, out, allow_functional_mismatch=True, progress=False)
    with pytest.raises(MlipError, match="its own precision"):
        run_eos_benchmark(EMT_NAME, source, out, dtype="float32", allow_functional_mismatch=True, progress=False)


def test_a_file_without_curves_is_refused(tmp_path):
    path = tmp_path / "few.extxyz"
    write(path, curve("Cu", 3.6, np.array([1.0, 1.1]), 0.0, 1.0))
    with pytest.raises(MlipError, match="no run of 5 frames"):
        read_curves(path)
    with pytest.raises(MlipError, match="no such file"):
        read_curves(tmp_path / "absent.extxyz")
