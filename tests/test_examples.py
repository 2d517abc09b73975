"""The scripts of examples/ run as a user would run them, on a small potential made on the fly."""

import csv
import re
import runpy
import sys
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> Path:
    """An M3GNet with random parameters, of a seed at which it happens to bind diamond silicon, at 28 A^3/atom."""
    config = M3GNetConfig(units=8)
    metadata = PotentialMetadata(reference_energies={"Si": -4.0}, scale=10.0)
    path = tmp_path_factory.mktemp("potential") / "silicon.safetensors"
    return Potential(config, init_parameters(config, seed=27), metadata).save(path)


@pytest.fixture
def run(monkeypatch, capsys):
    """A function: name of an example and its arguments -> what it printed."""

    def run_example(name: str, *arguments) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run_example


def number(pattern: str, text: str) -> float:
    return float(re.search(pattern, text)[1])


def test_ase_relaxes_with_the_calculator(run, potential, tmp_path):
    ase.io.write(tmp_path / "POSCAR", bulk("Si", a=5.8))
    printed = run("relax_with_ase", potential, tmp_path / "POSCAR")
    assert re.search(r"^converged after \d+ steps", printed, re.MULTILINE)
    assert number(r"volume ([\d.]+)", printed) == pytest.approx(28.0, rel=0.01)


def test_a_folder_of_cifs_is_relaxed_and_a_failure_is_told(run, potential, tmp_path):
    for name, atoms in {"a": bulk("Si", a=5.9), "b": bulk("Si", a=6.2), "c": bulk("Cu")}.items():
        ase.io.write(tmp_path / f"{name}.cif", atoms)
    run("relax_folder", potential, tmp_path, tmp_path / "out")
    rows = {row["file"]: row for row in csv.DictReader((tmp_path / "out" / "relaxed.csv").open())}
    assert [row["reason"] for row in rows.values()] == ["converged", "converged", "error"]
    volumes = [float(rows[name]["volume_A3_per_atom"]) for name in ("a.cif", "b.cif")]
    assert volumes == pytest.approx([28.0, 28.0], rel=0.02)  # 0.05 eV/A is 1.5 % of so soft a crystal
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"relaxed.csv", "a.cif", "b.cif"}
    assert ase.io.read(tmp_path / "out" / "b.cif").get_volume() / 2 == pytest.approx(volumes[1], rel=1e-3)


def test_the_equation_of_state_has_its_minimum_where_relaxation_ends(run, potential):
    printed = run("equation_of_state", potential)
    assert number(r"volume ([\d.]+)", printed) == pytest.approx(28.0, rel=0.01)
    assert number(r"bulk modulus ([\d.]+) GPa", printed) > 1


def test_phonons_of_silicon_are_six_branches_from_one_displacement(run, potential):
    pytest.importorskip("phonopy")
    printed = run("phonons", potential)
    assert "1 displaced supercells of 16 atoms" in printed
    # classical limit 3 R = 24.9 J/K/mol; modes of this made-up potential that are imaginary do not count
    assert 0 < number(r"300 K ([\d.]+)", printed) < 24.9


def test_a_pymatgen_structure_comes_back_relaxed_with_its_symmetry(run, potential):
    printed = run("pymatgen_workflow", potential)
    before, after = (line for line in printed.splitlines() if line.startswith(("before", "after")))
    assert "Si Fd-3m" in before
    assert "Si Fd-3m" in after
    assert number(r"a ([\d.]+) A", after) == pytest.approx((8 * 28.0) ** (1 / 3), rel=0.005)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_says_how_to_run_it_and_is_run_here(path):
    assert f"python {path.name} potential.safetensors" in path.read_text().split('"""')[1]
    assert f'run("{path.stem}"' in Path(__file__).read_text()
