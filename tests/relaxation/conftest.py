"""Crystals, layers and chains off their equilibrium, and the potential that relaxes them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, mx2
from ase.spacegroup import crystal

sys.path.insert(0, str(Path(__file__).parent))

from morse import MorsePotential, morse_potential


@pytest.fixture(scope="session")
def potential() -> MorsePotential:
    return morse_potential()


def perturbed(atoms: Atoms, seed: int, strain: float = 0.02, rattle: float = 0.05) -> Atoms:
    """Off equilibrium: strained within its periodic directions and rattled; calculator and constraints gone."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    deformation = np.eye(3) + strain * rng.normal(size=(3, 3)) * np.outer(atoms.pbc, atoms.pbc)
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    atoms.positions += rattle * rng.normal(size=atoms.positions.shape)
    return atoms


def _skewed(atoms: Atoms) -> Atoms:
    """The same crystal in a much skewed cell."""
    atoms.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-1, 2, 1]]) @ atoms.cell.array)
    return atoms


def _left_handed(atoms: Atoms) -> Atoms:
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    return atoms


@pytest.fixture(scope="session")
def crystals() -> dict[str, Atoms]:
    """Three dimensions, all periodic."""
    perovskite = crystal(
        ["Sr", "Ti", "O"],
        [(0.5, 0.5, 0.5), (0, 0, 0), (0.5, 0, 0)],
        spacegroup=221,
        cellpar=[3.9, 3.9, 3.9, 90, 90, 90],
    )
    perfect = {
        "one_atom": bulk("Cu", a=3.7),
        "diamond": bulk("Si"),
        "rocksalt": bulk("NaCl", "rocksalt", a=5.4),
        "hcp": bulk("Mg"),
        "wurtzite": bulk("ZnO", "wurtzite", a=3.25, c=5.2),
        "perovskite": perovskite,
        "skewed": _skewed(bulk("CsCl", "cesiumchloride", a=4.1)),
        "left_handed": _left_handed(bulk("GaAs", "zincblende", a=5.6)),
    }
    return {name: perturbed(atoms, seed) for seed, (name, atoms) in enumerate(perfect.items())}


@pytest.fixture(scope="session")
def low_dimensional() -> dict[str, Atoms]:
    """Layers, chains and a molecule with open directions, one of each tilted away from the axes."""
    layer = mx2("MoS2", a=3.2, vacuum=7.5)
    layer.pbc = (True, True, False)
    sheet = Atoms(
        "Cu2", [[0, 0, 0], [2.6, 0, 0.1]], cell=[[5.2, 0, 0], [1.3, 2.3, 0], [0, 0, 0]], pbc=(True, True, False)
    )
    chain = Atoms("CN", [[0, 0, 0], [1.4, 0.2, 0]], cell=[[2.7, 0, 0], [0, 0, 0], [0, 0, 0]], pbc=(True, False, False))
    along_z = Atoms("Se2", [[7, 7, 0], [7.5, 7, 2.3]], cell=[14, 14, 4.7], pbc=(False, False, True))
    trimer = Atoms("Al3", [[0, 0, 0], [2.3, 0, 0], [1.2, 2.2, 0.1]])
    tilted = layer.copy()
    tilted.rotate(40, (1, 2, 3), rotate_cell=True)
    perfect = {
        "layer": layer,
        "sheet_without_c": sheet,
        "chain": chain,
        "chain_along_z": along_z,
        "molecule": trimer,
        "tilted_layer": tilted,
    }
    return {
        name: perturbed(atoms, seed, strain=0.02 if name != "tilted_layer" else 0.0)
        for seed, (name, atoms) in enumerate(perfect.items())
    }
