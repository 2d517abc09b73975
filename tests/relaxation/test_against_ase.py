"""Our paths and end points against ASE's FIRE with FrechetCellFilter, the same potential behind both."""

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

import mlip

N_STEPS = 20
STEPS_COMPARED = (1, 2, 5, 12, N_STEPS)  # mixing, growth of the time step and uphill restarts are all within


def ase_path(
    atoms: Atoms, potential, mask=None, fmax: float = 0.01, steps: int = N_STEPS, with_cell: bool = True
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions and cell after 0, 1, 2, ... steps, until converged."""
    atoms = atoms.copy()
    atoms.calc = mlip.MLIPCalculator(potential, dtype="float64")
    target = FrechetCellFilter(atoms, mask=mask) if with_cell else atoms
    iterations = FIRE(target, logfile=None).irun(fmax=fmax, steps=steps)
    return [(atoms.positions.copy(), atoms.cell.array.copy()) for _ in iterations]


def assert_same_paths(structures: list[Atoms], paths, potential, tolerance: float = 1e-6, **options) -> None:
    for steps in STEPS_COMPARED:
        results = mlip.relax(structures, potential, fmax=0.01, steps=steps, dtype="float64", progress=False, **options)
        for result, path in zip(results, paths, strict=True):
            assert result.n_steps == min(steps, len(path) - 1)
            positions, cell = path[result.n_steps]
            np.testing.assert_allclose(result.atoms.positions, positions, rtol=0, atol=tolerance)
            np.testing.assert_allclose(result.atoms.cell.array, cell, rtol=0, atol=tolerance)


def test_first_twenty_steps_of_crystals_are_those_of_ase(crystals, potential):
    structures = list(crystals.values())
    paths = [ase_path(atoms, potential) for atoms in structures]
    assert_same_paths(structures, paths, potential)


@pytest.mark.parametrize("mask", [(1, 1, 0, 0, 0, 1), (1, 1, 1, 0, 0, 0), (0, 0, 1, 0, 0, 0)])
def test_first_twenty_steps_with_a_masked_cell_are_those_of_ase(crystals, potential, mask):
    structures = [crystals[name] for name in ("rocksalt", "left_handed", "skewed")]
    paths = [ase_path(atoms, potential, mask=np.array(mask)) for atoms in structures]
    assert_same_paths(structures, paths, potential, cell=mask)


def test_first_twenty_steps_at_a_fixed_cell_are_those_of_ase(crystals, potential):
    structures = [crystals["perovskite"], crystals["hcp"]]
    paths = [ase_path(atoms, potential, with_cell=False) for atoms in structures]
    assert_same_paths(structures, paths, potential, cell=False)


def test_layers_and_chains_relax_along_their_periodic_directions_as_in_ase(low_dimensional, potential):
    masks = {"layer": (1, 1, 0, 0, 0, 1), "chain_along_z": (0, 0, 1, 0, 0, 0)}
    structures = [low_dimensional[name] for name in masks]
    paths = [
        ase_path(atoms, potential, mask=np.array(mask)) for atoms, mask in zip(structures, masks.values(), strict=True)
    ]
    assert_same_paths(structures, paths, potential)


def test_fixed_atoms_move_only_with_the_cell_as_in_ase(crystals, potential):
    atoms = crystals["perovskite"].copy()
    atoms.set_constraint(FixAtoms([0, 3]))
    assert_same_paths([atoms], [ase_path(atoms, potential)], potential)


def test_end_points_are_those_of_ase_in_energy_cell_and_number_of_steps(crystals, potential):
    structures = list(crystals.values())
    results = mlip.relax(structures, potential, fmax=0.02, dtype="float64", progress=False)
    for atoms, result in zip(structures, results, strict=True):
        path = ase_path(atoms, potential, fmax=0.02, steps=500)
        assert result.converged
        assert result.n_steps == len(path) - 1
        positions, cell = path[-1]
        # rounding grows along a path of some hundred steps; still far below any physics
        np.testing.assert_allclose(result.atoms.cell.array, cell, atol=1e-4)
        np.testing.assert_allclose(result.atoms.positions, positions, atol=1e-4)
