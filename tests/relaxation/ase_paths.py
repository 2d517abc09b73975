"""The way that ASE's FIRE takes with FrechetCellFilter, and the assertion that ours is the same."""

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

import mlip

N_STEPS = 20
STEPS_COMPARED = (1, 2, 5, 12, N_STEPS)  # mixing, growth of the time step and uphill restarts are all within
Path = list[tuple[np.ndarray, np.ndarray]]


def ase_path(atoms: Atoms, potential, fmax: float = 0.01, steps: int = N_STEPS, with_cell: bool = True, **cell) -> Path:
    """Positions and cell after 0, 1, 2, ... steps, until converged.

    Args:
        cell: arguments of FrechetCellFilter.
    """
    atoms = atoms.copy()
    atoms.calc = mlip.MLIPCalculator(potential, dtype="float64")
    target = FrechetCellFilter(atoms, **cell) if with_cell else atoms
    iterations = FIRE(target, logfile=None).irun(fmax=fmax, steps=steps)
    return [(atoms.positions.copy(), atoms.cell.array.copy()) for _ in iterations]


def assert_same_paths(structures: list[Atoms], paths: list[Path], potential, **options) -> None:
    """To 1e-6 A after each of `STEPS_COMPARED`."""
    for steps in STEPS_COMPARED:
        results = mlip.relax(structures, potential, fmax=0.01, steps=steps, dtype="float64", progress=False, **options)
        for result, path in zip(results, paths, strict=True):
            assert result.n_steps == min(steps, len(path) - 1), (result.atoms.symbols, result.reason)
            positions, cell = path[result.n_steps]
            np.testing.assert_allclose(result.atoms.positions, positions, rtol=0, atol=1e-6)
            np.testing.assert_allclose(result.atoms.cell.array, cell, rtol=0, atol=1e-6)


def assert_same_ends(structures: list[Atoms], potential, cell: dict, **options) -> None:
    """Where and when relaxations to 0.02 eV/A end.

    Args:
        cell: arguments of FrechetCellFilter.
    """
    results = mlip.relax(structures, potential, fmax=0.02, dtype="float64", progress=False, **options)
    for atoms, result in zip(structures, results, strict=True):
        path = ase_path(atoms, potential, fmax=0.02, steps=500, **cell)
        assert result.converged
        assert result.n_steps == len(path) - 1
        positions, end_cell = path[-1]
        # rounding grows along a path of some hundred steps; still far below any physics
        np.testing.assert_allclose(result.atoms.cell.array, end_cell, atol=1e-4)
        np.testing.assert_allclose(result.atoms.positions, positions, atol=1e-4)
