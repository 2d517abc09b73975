"""Crystals at and off the minimum of a pair potential that compiles in a moment."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from tests.relaxation.morse import MorsePotential, morse_potential


@pytest.fixture(scope="session")
def potential() -> MorsePotential:
    return morse_potential()


def left_handed(atoms: Atoms) -> Atoms:
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    return atoms


def without_symmetry() -> Atoms:
    """Four kinds of atoms in two layers, none of them at a center of inversion."""
    atoms = bulk("Mg", a=2.6, c=4.25).repeat((2, 1, 1))
    atoms.symbols = ["Cu", "Au", "Al", "Pt"]
    strain = np.array([[0.0, 0.03, 0.0], [0.0, 0.02, 0.03], [0.02, 0.0, 0.0]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.rattle(0.05, seed=0)
    return atoms


@pytest.fixture
def crystals() -> dict[str, Atoms]:
    return {
        "one_atom": bulk("Cu", a=3.6),
        "hexagonal": bulk("Mg"),
        "left_handed": left_handed(bulk("Ni", a=3.5, cubic=True)),
        "no_symmetry": without_symmetry(),
    }
