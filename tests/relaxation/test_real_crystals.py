"""The published M3GNet on real ALEXANDRIA crystals: our end points are ASE's, layers and chains included."""

import gzip
import io
import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from ase_paths import ase_path, assert_same_paths
from morse import morse_potential

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
"""Metals, halides and a carbide of 4 or 5 atoms that take some 15 steps. They have about as many neighbors, the most
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


@pytest.fixture(scope="module")
def twenty(crystals, shared) -> list[Atoms]:
    """Eight crystals of ALEXANDRIA, two of them once more in left-handed cells, a metal with one atom in its cell, two
    in cells skewed by 18 and 25 degrees, five layers and two chains; off their equilibria."""
    rng = np.random.default_rng(1)
    goldens = {atoms.info["name"]: atoms for atoms in ase.io.read(shared / "goldens/m3gnet/structures.extxyz", ":")}
    found = json.loads(gzip.decompress((shared / "data/lowdim/mc2d_2d_structures.json.gz").read_bytes()))
    layers = [Atoms(layer["species"], layer["positions"], cell=layer["cell"]) for layer in found]
    chosen = [(atoms, SPACE) for atoms in crystals[:8]]
    for atoms in crystals[:2]:
        swapped = atoms.copy()
        swapped.set_cell(atoms.cell.array[[1, 0, 2]])
        chosen.append((swapped, SPACE))
    special = ("hand_Cu_fcc_1atom", "hand_CsCl_2atom_skewed", "hist_0939_GaHgO2")
    chosen += [(goldens[name], SPACE) for name in special]
    chosen += [(layer, PLANE) for layer in layers if len(layer) <= 4][:5]
    chain = goldens["hand_C_chain_1D"]
    chosen += [(chain, (False, False, True)), (chain.repeat((1, 1, 2)), (False, False, True))]
    structures = [perturbed(atoms, directions, rng) for atoms, directions in chosen]
    for atoms, (_, directions) in zip(structures, chosen, strict=True):
        atoms.pbc = directions
    return structures


@pytest.mark.parametrize("kind", ["morse", pytest.param("m3gnet", marks=pytest.mark.slow)])
def test_first_twenty_steps_of_twenty_real_structures_are_those_of_ase(kind, twenty, potential):
    masks = {PLANE: (1, 1, 0, 0, 0, 1), (False, False, True): (0, 0, 1, 0, 0, 0), SPACE: (1, 1, 1, 1, 1, 1)}
    potential = morse_potential() if kind == "morse" else potential
    assert len(twenty) == 20
    assert sum(np.linalg.det(atoms.cell.array) < 0 for atoms in twenty) >= 2
    paths = [ase_path(atoms, potential, mask=np.array(masks[tuple(atoms.pbc.tolist())])) for atoms in twenty]
    assert_same_paths(twenty, paths, potential)


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
