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
from mlip.relaxation.cell import Along

pytestmark = pytest.mark.slow  # ASE relaxes one by one

PLANE, LINE, SPACE = (True, True, False), (True, False, False), (True, True, True)
ASE_MASKS = {PLANE: (1, 1, 0, 0, 0, 1), LINE: (1, 0, 0, 0, 0, 0), SPACE: (1, 1, 1, 1, 1, 1)}


@pytest.fixture(scope="module")
def structures(shared) -> list[tuple[Atoms, tuple[bool, bool, bool]]]:
    """Ten small crystals of alexandria-random-1k, strained and rattled, and the goldens' MoS2 layer and C chain."""
    text = gzip.decompress((shared / "data/benchmarks/alexandria-random-1k.extxyz.gz").read_bytes()).decode()
    crystals = [atoms for atoms in ase.io.read(io.StringIO(text), ":200", format="extxyz") if len(atoms) <= 6][:10]
    goldens = {atoms.info["name"]: atoms for atoms in ase.io.read(shared / "goldens/m3gnet/structures.extxyz", ":")}
    low = [(goldens["hand_MoS2_mono_vac15"], PLANE), (goldens["hand_C_chain_1D"], LINE)]
    rng = np.random.default_rng(0)
    made = []
    for atoms, directions in [*((atoms, SPACE) for atoms in crystals), *low]:
        atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        strain = np.eye(3) + 0.01 * rng.normal(size=(3, 3)) * np.outer(directions, directions)
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += 0.02 * rng.normal(size=atoms.positions.shape)
        made.append((atoms, directions))
    return made


def test_energies_cells_and_steps_are_those_of_ase_with_our_calculator(structures, shared):
    potential = convert(shared / "goldens/m3gnet")
    results = mlip.relax(
        [atoms for atoms, _ in structures],
        potential,
        cell=[Along(directions) for _, directions in structures],
        dtype="float64",
        progress=False,
    )
    calculator = mlip.MLIPCalculator(potential, dtype="float64")
    for (atoms, directions), result in zip(structures, results, strict=True):
        atoms = atoms.copy()
        atoms.calc = calculator
        optimizer = FIRE(FrechetCellFilter(atoms, mask=np.array(ASE_MASKS[directions])), logfile=None)
        converged = optimizer.run(fmax=0.05, steps=500)
        assert (result.converged, result.n_steps) == (converged, optimizer.nsteps)
        assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6 * len(atoms))
        np.testing.assert_allclose(result.atoms.cell.array, atoms.cell.array, atol=1e-5)
        np.testing.assert_allclose(result.atoms.positions, atoms.positions, atol=1e-5)
