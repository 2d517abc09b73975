"""`mlip dft` as a user meets it."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk, graphene

from mlip.data import Store
from tests.command_line import mlip
from tests.dft.crystals import FEO
from tests.dft.pretend_vasp import pretend_run


@pytest.fixture
def files(tmp_path) -> list:
    ase.io.write(tmp_path / "two.extxyz", [FEO, bulk("Cu")])
    ase.io.write(tmp_path / "a layer.cif", graphene(vacuum=6.0))
    return [tmp_path / "two.extxyz", tmp_path / "a layer.cif"]


def test_structures_are_written_calculated_and_collected(files, tmp_path):
    folder, out = tmp_path / "dft", tmp_path / "calculated.h5"
    written = mlip("dft", "write", *files, "--out", folder)
    assert written.returncode == 0, written.stderr
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["a-layer", "two-000000", "two-000001"]
    assert "LATTICE_CONSTRAINTS" in (folder / "a-layer" / "INCAR").read_text()
    nothing = mlip("dft", "collect", folder, "--out", out)
    assert (nothing.returncode, out.exists()) == (0, False)
    assert "nothing has finished" in nothing.stdout
    pretend_run(folder / "two-000000", energies=(-9, -10))
    pretend_run(folder / "a-layer", energies=(-19, -20))
    collected = mlip("dft", "collect", folder, "--out", out)
    assert collected.returncode == 0, collected.stderr
    assert "functional: PBE, PBE+U" in collected.stdout
    with Store(out) as store:
        told = [(one.id, one.functional, one.dimensionality) for one in store.materials()]
        assert told == [("two-000000", "PBE+U", 3), ("a-layer", "PBE", 2)]
        np.testing.assert_allclose([store.frame(k).energy for k in range(2)], [-10, -20])


def test_failures_are_told_and_are_the_exit_status(files, tmp_path):
    folder = tmp_path / "dft"
    mlip("dft", "write", *files, "--out", folder)
    pretend_run(folder / "two-000000", tags={"LDAU": False})
    collected = mlip("dft", "collect", folder, "--out", tmp_path / "calculated.h5")
    assert collected.returncode == 1
    told = "two-000000: other functional: the run is of PBE, asked for PBE+U with U(Fe) = 5.3 eV"
    assert told in collected.stdout
    outcomes = json.loads(mlip("dft", "collect", folder, "--out", tmp_path / "calculated.h5", "--json").stdout)
    assert [one["reason"] for one in outcomes] == ["other functional", "not_started", "not_started"]


def test_files_that_cannot_be_read_are_told_and_the_others_written(files, tmp_path):
    (tmp_path / "bad.cif").write_text("no crystal")
    written = mlip("dft", "write", *files, tmp_path / "bad.cif", "--out", tmp_path / "dft", "--json")
    assert written.returncode == 1
    told = json.loads(written.stdout)
    assert (told["structures"], [one["file"] for one in told["unreadable"]]) == (3, [str(tmp_path / "bad.cif")])


def test_a_surrogate_of_a_recipe_relaxes_at_once(files, tmp_path):
    (tmp_path / "emt.yaml").write_text('dft: {kind: ase, calculator: "ase:ase.calculators.emt:EMT"}\n')
    folder, out = tmp_path / "dft", tmp_path / "calculated.h5"
    written = mlip("dft", "write", files[0], "--out", folder, "--recipe", tmp_path / "emt.yaml")
    assert written.returncode == 0, written.stderr
    collected = mlip("dft", "collect", folder, "--out", out)
    assert collected.returncode == 1  # iron
    assert "functional: surrogate:EMT" in collected.stdout
    with Store(out) as store:
        assert [one.functional for one in store.materials()] == ["surrogate:EMT"]


def test_mistakes_are_one_line(files, tmp_path):
    molecule = tmp_path / "molecule.xyz"
    molecule.write_text("2\nmolecule\nC 0 0 0\nO 0 0 1.1\n")
    for words, told in (
        (("write", molecule, "--out", tmp_path / "dft"), "is a molecule"),
        (("write", files[0], "--out", tmp_path / "dft", "--recipe", "dft/pbee"), "did you mean dft/pbe?"),
        (("collect", tmp_path, "--out", tmp_path / "a.h5"), "nothing was handed over here"),
    ):
        done = mlip("dft", *words)
        assert done.returncode == 2
        assert told in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    mlip("dft", "write", files[0], "--out", tmp_path / "dft")
    (tmp_path / "a.h5").write_text("mine")
    assert "exists already" in mlip("dft", "collect", tmp_path / "dft", "--out", tmp_path / "a.h5").stderr
    assert (tmp_path / "a.h5").read_text() == "mine"
