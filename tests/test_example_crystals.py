"""The crystals that `make quickstart` relaxes first."""

import ase.io
import pytest

from tests.conftest import REPOSITORY

CRYSTALS = REPOSITORY / "examples" / "crystals"


@pytest.mark.parametrize(("name", "n_atoms", "group"), [("NaCl", 8, 225), ("Si", 8, 227), ("TiO2", 6, 136)])
def test_each_is_the_crystal_that_it_is_called(name, n_atoms, group):
    atoms = ase.io.read(CRYSTALS / f"{name}.cif")
    assert (len(atoms), atoms.get_chemical_formula(empirical=True)) == (
        n_atoms,
        {"NaCl": "ClNa", "TiO2": "O2Ti"}.get(name, name),
    )
    assert atoms.info["spacegroup"].no == group


def test_the_quickstart_relaxes_them_before_it_trains():
    lines = (REPOSITORY / "Makefile").read_text(encoding="utf-8").splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("quickstart:"))
    commands = [line for line in lines[start + 1 :] if "$(BIN)/mlip" in line]
    assert "mlip relax examples/crystals/*.cif" in commands[0]
    assert len(list(CRYSTALS.glob("*.cif"))) == 3
