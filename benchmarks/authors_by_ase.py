"""The rules of the paper's group applied by ASE, one structure after another: a second reading of their relaxation code
(repository hyllios/utils, benchmark_ph/umlip.py), which shares nothing with mlip/benchmark/verdicts but the potential.

As there: distances by minimum image, pieces by the null space of the Laplacian, positions wrapped.
"""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import covalent_radii
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from mlip import MLIPCalculator

FMAX, STEPS, ROUNDS = 0.04, 500, 15
THICK = {"2d": 7.5, "1d": 12.5, "3d": None}
MASKS = {"3d": [True] * 6, "2d": [True, True, False, False, False, True], "1d": [False, False, True] + [False] * 3}


class WithStressFactor(Calculator):
    """mlip's calculator, its stress times a factor."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, potential, factor: float, dtype: str = "float32"):
        super().__init__()
        self.inner, self.factor = MLIPCalculator(potential, dtype=dtype), factor

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.inner.calculate(atoms, ["energy", "forces", "stress"], system_changes)
        results = self.inner.results
        self.results = {
            "energy": results["energy"],
            "forces": results["forces"],
            "stress": self.factor * np.asarray(results["stress"]),
        }


class FailedError(Exception):
    """Its message is the rule."""


def pieces(atoms: Atoms, supercell: tuple[int, int, int]) -> int:
    """Zeros of the Laplacian of the supercell's bonds."""
    big = atoms * supercell
    numbers = big.numbers
    distances = big.get_all_distances(mic=True)
    limits = 1.5 * (covalent_radii[numbers][:, None] + covalent_radii[numbers][None])
    laplacian = -((distances < limits) & ~np.eye(len(big), dtype=bool)).astype(float)
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    return int((np.abs(np.linalg.eigvalsh(laplacian)) < 5e-6).sum())


def crystal(atoms: Atoms, thick, connected: bool) -> Atoms:
    if max(atoms.cell.lengths()) > 30:
        raise FailedError("cell vector too long")
    if connected and pieces(atoms, (2, 2, 2)) != 1:
        raise FailedError("not in one piece")
    return atoms


def layer(atoms: Atoms, thick: float, connected: bool) -> Atoms:
    if max(atoms.cell.lengths()[:2]) > 30:
        raise FailedError("cell vector too long")
    atoms = atoms.copy()
    scaled = atoms.get_scaled_positions()
    scaled[:, 2] -= scaled[:, 2].min() + 0.5
    scaled = np.remainder(scaled, 1.0)
    scaled[:, 2] += 0.5 - scaled[:, 2].mean()
    atoms.set_scaled_positions(scaled)
    normal = np.cross(atoms.cell[0], atoms.cell[1])
    if any(np.linalg.norm(np.cross(v / np.linalg.norm(v), [0, 0, 1])) > 1.745e-4 for v in (normal, atoms.cell[2])):
        length = np.linalg.norm(atoms.cell[2])
        atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
        cell = atoms.cell.array.copy()
        cell[2] = [0, 0, length]
        atoms.set_cell(cell, scale_atoms=False)
    thickness = np.ptp(atoms.positions[:, 2])
    if thickness > thick:
        raise FailedError("too thick")
    cell = atoms.cell.array.copy()
    cell[2, 2] = thickness + 15
    atoms.set_cell(cell, scale_atoms=False)
    if connected and pieces(atoms, (2, 2, 1)) != 1:
        raise FailedError("not in one piece")
    return atoms


def chain(atoms: Atoms, thick: float, connected: bool) -> Atoms:
    if atoms.cell.lengths()[2] > 30:
        raise FailedError("cell vector too long")
    atoms = atoms.copy()
    positions = atoms.get_positions(wrap=True)
    if max(np.ptp(positions[:, 0]), np.ptp(positions[:, 1])) > thick:
        raise FailedError("too thick")
    rmax = np.linalg.norm(positions[:, :2] - positions[:, :2].mean(axis=0), axis=1).max()
    a = 15 + rmax
    cell = np.array([[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, atoms.cell[2, 2]]])
    positions[:, :2] += (cell[0, :2] + cell[1, :2]) / 2 - positions[:, :2].mean(axis=0)
    atoms.set_cell(cell, scale_atoms=False)
    atoms.set_positions(positions)
    if connected and pieces(atoms, (1, 1, 2)) != 1:
        raise FailedError("not in one piece")
    return atoms


RENEW = {"3d": crystal, "2d": layer, "1d": chain}


def relax(
    atoms: Atoms, dimensionality: str, calculator: Calculator, connected: bool
) -> tuple[Atoms | None, str | None]:
    """The relaxed structure, or the rule by which there is none.

    Args:
        atoms: fully periodic, chains along c, whole within their cell.
        connected: ask whether it is in one piece.
    """
    renew, thick = RENEW[dimensionality], THICK[dimensionality]
    atoms = atoms.copy()
    try:
        for _ in range(ROUNDS):
            atoms = renew(atoms, thick and 1.5 * thick, connected)
            atoms.calc = calculator
            filtered = FrechetCellFilter(atoms, mask=MASKS[dimensionality])
            optimizer = FIRE(filtered, logfile=None)
            optimizer.insert_observer(_watch, atoms=filtered)
            optimizer.run(fmax=FMAX / 2, steps=STEPS)
            force = _largest(filtered)
            if force < FMAX / 2:
                break
        atoms = renew(atoms, thick, connected)
        atoms.calc = calculator
        if not _largest(FrechetCellFilter(atoms, mask=MASKS[dimensionality])) <= FMAX:
            raise FailedError("not converged")
    except FailedError as failed:
        return None, str(failed)
    except Exception as error:
        return None, f"exception: {type(error).__name__}"
    return atoms, None


def _watch(atoms: FrechetCellFilter) -> None:
    if not _largest(atoms) <= 1e4:
        raise FailedError("absurd forces")


def _largest(atoms) -> float:
    return float(np.sqrt((atoms.get_forces() ** 2).sum(axis=1).max()))
