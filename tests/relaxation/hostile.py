"""Structures that no one should relax, and that someone will: of every kind of fault, reproducible by seed."""

from collections.abc import Callable, Iterator

import numpy as np
from ase import Atoms
from ase.build import bulk

Rng = np.random.Generator
ELEMENTS = (1, 3, 6, 8, 11, 14, 17, 26, 29, 47, 79)


def _random(rng: Rng, n_atoms: int, edge: float, pbc=True) -> Atoms:
    """Atoms anywhere in a cube."""
    return Atoms(rng.choice(ELEMENTS, n_atoms), rng.uniform(0, edge, (n_atoms, 3)), cell=[edge] * 3, pbc=pbc)


def overlapping(rng: Rng) -> Atoms:
    atoms = _random(rng, 4, 5.0)
    atoms.positions[1] = atoms.positions[0] + rng.uniform(0.005, 0.2, 3)
    return atoms


def coincident(rng: Rng) -> Atoms:
    atoms = _random(rng, 3, 4.0)
    atoms.positions[2] = atoms.positions[0] + atoms.cell[rng.integers(3)]
    return atoms


def half_angstrom_cell(rng: Rng) -> Atoms:
    return _random(rng, rng.integers(1, 4), 0.5)


def collapsed_cell(rng: Rng) -> Atoms:
    return _random(rng, rng.integers(1, 20), 10.0 ** rng.uniform(-6, -0.5))


def huge_vacuum(rng: Rng) -> Atoms:
    atoms = _random(rng, rng.integers(1, 6), 4.0)
    atoms.set_cell(np.eye(3) * 10.0 ** rng.uniform(2, 7))
    return atoms


def needle(rng: Rng) -> Atoms:
    atoms = _random(rng, rng.integers(1, 5), 2.5)
    atoms.set_cell(np.diag([2.5, 3.0, 10.0 ** rng.uniform(2, 5)])[rng.permutation(3)])
    return atoms


def one_atom(rng: Rng) -> Atoms:
    cell = np.eye(3) * rng.uniform(1.0, 12.0) + 0.5 * rng.normal(size=(3, 3))
    return Atoms([rng.choice(ELEMENTS)], cell=cell, pbc=True)


def two_hundred_atoms(rng: Rng) -> Atoms:
    return _random(rng, 200, rng.uniform(9.0, 16.0))


def random_positions(rng: Rng) -> Atoms:
    n_atoms = rng.integers(2, 20)
    return _random(rng, n_atoms, (n_atoms * rng.uniform(3, 30)) ** (1 / 3))


def flown_apart(rng: Rng) -> Atoms:
    atoms = _random(rng, 5, 4.0, pbc=rng.random(3) < 0.5)
    atoms.positions += rng.normal(size=(5, 3)) * 10.0 ** rng.uniform(1, 9)
    return atoms


def wrong_elements(rng: Rng) -> Atoms:
    atoms = _random(rng, 3, 5.0)
    atoms.numbers[rng.integers(3)] = rng.choice([0, 95, 118, 119, 150, -3, 10_000])
    return atoms


def not_a_number(rng: Rng) -> Atoms:
    atoms = _random(rng, 4, 5.0)
    values = atoms.positions if rng.random() < 0.5 else atoms.cell.array
    values[rng.integers(3), rng.integers(3)] = rng.choice([np.nan, np.inf, -np.inf, 1e300])
    return atoms if values is atoms.positions else Atoms(atoms.numbers, atoms.positions, cell=values, pbc=True)


def zero_volume(rng: Rng) -> Atoms:
    atoms = _random(rng, 2, 4.0, pbc=rng.random(3) < 0.7)
    cell = rng.normal(size=(3, 3)) * 4
    cell[2] = rng.choice([0.0, 1.0, 1e-9]) * (cell[0] + cell[1]) + rng.choice([0.0, 1e-12, 1e-5])
    atoms.set_cell(cell)
    return atoms


def no_cell(rng: Rng) -> Atoms:
    atoms = _random(rng, rng.integers(1, 6), 3.0, pbc=rng.random(3) < 0.5)
    atoms.set_cell(np.diag(rng.choice([0.0, 4.0], 3)))
    return atoms


def any_periodicity(rng: Rng) -> Atoms:
    atoms = _random(rng, rng.integers(1, 9), 5.0, pbc=rng.random(3) < 0.5)
    atoms.set_cell(atoms.cell.array + rng.normal(size=(3, 3)))
    return atoms


def skewed(rng: Rng) -> Atoms:
    atoms = bulk("Cu") if rng.random() < 0.5 else bulk("NaCl", "rocksalt", a=5.6)
    atoms.set_cell((np.eye(3, dtype=int) + np.triu(rng.integers(-30, 30, (3, 3)), 1)) @ atoms.cell.array)
    return atoms


def no_atoms(rng: Rng) -> Atoms:
    return Atoms(cell=rng.choice([0.0, 4.0]) * np.eye(3), pbc=rng.random() < 0.5)


KINDS: tuple[Callable[[Rng], Atoms], ...] = (
    overlapping,
    coincident,
    half_angstrom_cell,
    collapsed_cell,
    huge_vacuum,
    needle,
    one_atom,
    two_hundred_atoms,
    random_positions,
    flown_apart,
    wrong_elements,
    not_a_number,
    zero_volume,
    no_cell,
    any_periodicity,
    skewed,
    no_atoms,
)


def hostile_structures(n_structures: int, seed: int = 0) -> Iterator[tuple[str, Atoms]]:
    """(kind, structure) of all kinds in turn."""
    rng = np.random.default_rng(seed)
    for k in range(n_structures):
        make = KINDS[k % len(KINDS)]
        yield make.__name__, make(rng)
