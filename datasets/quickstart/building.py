"""What the builders share: the elements, their sizes and likeness, and the push off equilibrium."""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii


def elements(symbols: str) -> list[str]:
    """The words of a line: "Mo W Nb" is shorter to read than a list of strings."""
    return symbols.split()


def pairs(left: str, right: str) -> list[tuple[str, str]]:
    """Every element of the first line with every one of the second."""
    return list(product(elements(left), elements(right)))


METALS = elements(
    "Li Na K Rb Cs Be Mg Ca Sr Ba Sc Y La Ti Zr Hf V Nb Ta Cr Mo W Mn Re Fe Ru Os Co Rh Ir Ni Pd Pt Cu Ag Au "
    "Zn Cd Al Ga In Tl Si Ge Sn Pb Sb Bi"
)

STRAIN = 0.03
"""Largest isotropic strain, and twice the deviation of its components."""
SHIFT = 0.05
"""Standard deviation of the atoms' shifts along x, y and z, A."""


def sum_of_radii(*symbols: str) -> float:
    """Sum of the elements' covalent radii, A."""
    return float(sum(covalent_radii[atomic_numbers[symbol]] for symbol in symbols))


def push_off_equilibrium(atoms: Atoms, rng: np.random.Generator, directions: int = 3) -> Atoms:
    """A copy with a random strain of the first `directions` Cartesian axes and random shifts of the atoms."""
    random = rng.normal(0.0, STRAIN / 2, (directions, directions))
    strain = (random + random.T) / 2 + rng.uniform(-STRAIN, STRAIN) * np.eye(directions)
    deformation = np.eye(3)
    deformation[:directions, :directions] += strain
    pushed = atoms.copy()
    pushed.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    pushed.positions += rng.normal(0.0, SHIFT, (len(atoms), 3))
    return pushed


Families = dict[Callable[..., Atoms], list[tuple[str, ...]]]
"""Builder of a structure type -> the species that it is given."""


def deal(families: Families, rng: np.random.Generator) -> Iterator[Atoms]:
    """One structure of each family in turn, in random order within the family, none twice."""
    shuffled = {builder: [members[k] for k in rng.permutation(len(members))] for builder, members in families.items()}
    for turn in range(max(map(len, shuffled.values()))):
        for builder, members in shuffled.items():
            if turn < len(members):
                yield builder(*members[turn])
