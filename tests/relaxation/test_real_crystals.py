"""The published M3GNet on real ALEXANDRIA crystals: our end points are ASE's, layers and chains included."""

import gzip
import io

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

import mlip
from mlip.convert import convert
from mlip.potential import Potential
from mlip.relaxation.cell import Along

Directions = tuple[bool, bool, bool]

PLANE, LINE, SPACE = (True, True, False), (True, False, False), (True, True, True)
ASE_MASKS = {PLANE: (1, 1, 0, 0, 0, 1), LINE: (1, 0, 0, 0, 0, 0), SPACE: (1, 1, 1, 1, 1, 1)}

QUICK = (
    "BaClNbP2",
    "BaBr2PtSe",
    "CCa3Y",
    "AlCaHg3",
    "Cd3CoRe",
    "Cl3CrTc",
    "HBaLi2Sn",
    "Bi2CdHg2",
    "AuBa2HgMg",
    "AuFSe2",
)
"""Metals, halides and a carbide of 4 or 5 atoms that take some 15 steps. They have about as many neighbours, the most
first, so that the calculator compiles once."""


@pytest.fixture(scope="module")
def potential(shared) -> Potential:
    return convert(shared / "goldens/m3gnet")


@pytest.fixture(scope="module")
def crystals(shared) -> list[Atoms]:
    """The small ones among the first of alexandria-random-1k."""
    text = gzip.decompress((shared / "data/benchmarks/alexandria-random-1k.extxyz.gz").read_bytes()).decode()
    return [atoms for atoms in ase.io.read(io.StringIO(text), ":200", format="extxyz") if len(atoms) <= 6]


def perturbed(atoms: Atoms, directions: Directions, rng: np.random.Generator) -> Atoms:
    """Strained along `directions` and rattled."""
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    strain = np.eye(3) + 0.01 * rng.normal(size=(3, 3)) * np.outer(directions, directions)
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += 0.02 * rng.normal(size=atoms.positions.shape)
    return atoms


def assert_ends_are_those_of_ase(structures: list[Atoms], directions: list[Directions], potential: Potential) -> None:
    """All of ours in one call, ASE's one by one with our calculator."""
    cells = [Along(chosen) for chosen in directions]
    results = mlip.relax(structures, potential, cell=cells, dtype="float64", progress=False)
    calculator = mlip.MLIPCalculator(potential, dtype="float64")
    for atoms, chosen, result in zip(structures, directions, results, strict=True):
        atoms = atoms.copy()
        atoms.calc = calculator
        optimizer = FIRE(FrechetCellFilter(atoms, mask=np.array(ASE_MASKS[chosen])), logfile=None)
        converged = optimizer.run(fmax=0.05, steps=500)
        assert (result.converged, result.n_steps) == (converged, optimizer.nsteps)
        assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6 * len(atoms))
        np.testing.assert_allclose(result.atoms.cell.array, atoms.cell.array, atol=1e-5)
        np.testing.assert_allclose(result.atoms.positions, atoms.positions, atol=1e-5)


def test_ten_crystals_with_short_ways_end_where_ase_ends(crystals, potential):
    by_formula = {atoms.get_chemical_formula(): atoms for atoms in crystals}
    rng = np.random.default_rng(0)
    structures = [perturbed(by_formula[formula], SPACE, rng) for formula in QUICK]
    assert_ends_are_those_of_ase(structures, [SPACE] * len(QUICK), potential)


@pytest.mark.slow  # ASE relaxes one by one
def test_ten_crystals_a_layer_and_a_chain_end_where_ase_ends(crystals, potential, shared):
    goldens = {atoms.info["name"]: atoms for atoms in ase.io.read(shared / "goldens/m3gnet/structures.extxyz", ":")}
    chosen = [*crystals[:10], goldens["hand_MoS2_mono_vac15"], goldens["hand_C_chain_1D"]]
    directions = [*[SPACE] * 10, PLANE, LINE]
    rng = np.random.default_rng(0)
    structures = [perturbed(atoms, along, rng) for atoms, along in zip(chosen, directions, strict=True)]
    assert_ends_are_those_of_ase(structures, directions, potential)
