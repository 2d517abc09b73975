"""A structure that training frames are made from, and the ways in which they are: strained, rattled, expanded."""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from vesin import NeighborList

VACUUM = 15.0
"""A between the images of a layer or a chain, as in ALEXANDRIA."""
CLOSEST = 0.62
"""Sums of covalent radii: closer pairs are beyond what the teacher has seen."""
AXES = {"crystal": 3, "slab": 2, "layer": 2, "chain": 1, "molecule": 0}
"""Kind -> Cartesian directions that are strained: those of a layer are the first two, of a chain the first."""


class Parent(NamedTuple):
    """A structure by name; its frames stand in the same split."""

    id: str
    atoms: Atoms
    kind: str
    """Key of AXES."""


def near(parent: Parent, rng: np.random.Generator) -> Atoms:
    """Within the reach of a relaxation or a phonon."""
    return pushed(parent, rng, strain=rng.uniform(0.0, 0.03), shift=rng.uniform(0.0, 0.08))


def far(parent: Parent, rng: np.random.Generator) -> Atoms:
    """As in a hot crystal, or at the begin of a bad guess's relaxation."""
    return pushed(parent, rng, strain=rng.uniform(0.02, 0.08), shift=rng.uniform(0.05, 0.25))


def expanded(parent: Parent, rng: np.random.Generator) -> Atoms:
    """At 78 to 130 % of the volume: along the curve of an equation of state."""
    factor = rng.uniform(0.78, 1.3) ** (1 / 3)
    return pushed(parent, rng, strain=0.01, shift=rng.uniform(0.0, 0.05), stretch=factor)


def pushed(parent: Parent, rng: np.random.Generator, strain: float, shift: float, stretch: float = 1.0) -> Atoms:
    """A copy, strained along the periodic directions and rattled.

    Args:
        strain: largest component.
        shift: standard deviation of the atoms' shifts, A.
        stretch: factor on the periodic directions.
    """
    atoms, n = parent.atoms.copy(), AXES[parent.kind]
    if n:
        random = rng.uniform(-strain, strain, (n, n))
        deformation = np.eye(3)
        deformation[:n, :n] = stretch * (np.eye(n) + (random + random.T) / 2)
        atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    atoms.positions += rng.normal(0.0, shift, (len(atoms), 3))
    return atoms


def with_vacuum(atoms: Atoms, n_periodic: int) -> Atoms:
    """A layer in the plane of a and b, or a chain along a, in a cell that is periodic in all directions.

    The thickness is what remains without the largest gap, so that it may cross the cell's boundary.
    """
    atoms = atoms.copy()
    atoms.pbc = True
    for axis in range(n_periodic, 3):
        fractions = np.sort(atoms.get_scaled_positions(wrap=True)[:, axis])
        gaps = np.diff(np.append(fractions, fractions[0] + 1))
        first = fractions[(int(gaps.argmax()) + 1) % len(fractions)]
        height = atoms.cell.lengths()[axis]
        along = (atoms.get_scaled_positions(wrap=True)[:, axis] - first) % 1 * height
        unit = atoms.cell.array[axis] / height
        rest = atoms.get_scaled_positions(wrap=True)
        rest[:, axis] = 0
        cell = atoms.cell.array
        atoms.positions = rest @ cell + along[:, None] * unit
        cell[axis] = unit * (along.max() + VACUUM)
        atoms.cell = cell
    return atoms


def is_sparse(atoms: Atoms, closest: float = CLOSEST) -> bool:
    """Whether no two atoms are closer than `closest` sums of their covalent radii."""
    radii = covalent_radii[atoms.numbers]
    cutoff = closest * 2 * radii.max()
    box = atoms.cell.array if atoms.pbc.any() else np.zeros((3, 3))
    found = NeighborList(cutoff=cutoff, full_list=True).compute(
        points=atoms.positions, box=box, periodic=bool(atoms.pbc.all()), quantities="ijd"
    )
    i, j, distances = found
    return bool((distances >= closest * (radii[i] + radii[j])).all())
