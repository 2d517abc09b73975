"""Dimers squeezed beyond what the teacher knows, labeled so that they repel: a shard of forces alone.

    python squeezed.py TEACHER LABELED/squeezed.h5

From its first bond inward a dimer of the teacher repels down to some distance r0, below which it is beyond the
teacher's data. There the force goes on as the repulsion of bare nuclei does that the student has built in
(`model.zbl`): with F_t(r0) of the teacher and Z the nuclei's force,

    F(r) = max(F_t(r0), LEAST) + Z(r) - Z(r0)        for r < r0,

so that what is left for the student's network to learn is a constant force.
"""

import argparse
from itertools import combinations_with_replacement
from pathlib import Path

import jax
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from built_structures import known_to

import mlip
from mlip.data.records import Frame, Trajectory
from mlip.data.split import assign_split
from mlip.data.writer import StoreWriter
from mlip.models.zbl import zbl_energies

GRID = np.linspace(0.62, 1.0, 9)
"""Sums of covalent radii at which the teacher is asked."""
LEAST = 3.0
"""eV/A."""
CLOSEST = 0.4
"""A, and at most 0.8 of r0."""
FRAMES = 5
"""Of a pair."""
FRACTIONS = (0.97, 0.03, 0.0)
_POWER = 6
"""Of the cutoff that ends the nuclei's repulsion at the sum of the covalent radii, as the student has it."""


def inner_wall(energies: np.ndarray) -> int:
    """Index of the innermost distance down to which the energy rises from its minimum.

    Args:
        energies: by ascending distance.
    """
    k = int(np.argmin(energies))
    while k > 0 and energies[k - 1] > energies[k]:
        k -= 1
    return k


def repulsion(numbers: tuple[int, int], distances: np.ndarray) -> np.ndarray:
    """Force between bare nuclei, eV/A."""
    species, senders, receivers = np.array(numbers), np.array([1, 0]), np.array([0, 1])

    def energy(distance):
        both = jax.numpy.stack([distance, distance])
        return zbl_energies(both, species, senders, receivers, _POWER).sum()

    return -np.asarray(jax.vmap(jax.grad(energy))(jax.numpy.asarray(distances)))


def frame(numbers: tuple[int, int], distance: float, force: float) -> Frame:
    """A dimer along x with its forces alone."""
    forces = np.array([[-force, 0.0, 0.0], [force, 0.0, 0.0]])
    positions = np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]])
    return Frame(np.array(numbers, np.int16), positions, np.zeros((3, 3)), np.zeros(3, bool), forces=forces)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    if options.out.exists():
        return 0
    teacher, rng = mlip.load(options.teacher), np.random.default_rng(0)
    pairs = list(combinations_with_replacement(known_to(teacher.elements), 2))
    sums = [covalent_radii[list(pair)].sum() for pair in pairs]
    asked = [Atoms(pair, [[0, 0, 0], [g * s, 0, 0]]) for pair, s in zip(pairs, sums, strict=True) for g in GRID]
    found = teacher.predict(asked, dtype="float32")
    with StoreWriter(options.out) as writer:
        for k, (pair, total) in enumerate(zip(pairs, sums, strict=True)):
            curve = found[k * len(GRID) : (k + 1) * len(GRID)]
            wall = inner_wall(np.array([one["energy"] for one in curve]))
            start, force = GRID[wall] * total, max(float(curve[wall]["forces"][1, 0]), LEAST)
            distances = np.append(rng.uniform(min(CLOSEST, 0.8 * start), start, FRAMES), start)
            nuclei = repulsion(pair, distances)
            frames = [frame(pair, d, force + z - nuclei[-1]) for d, z in zip(distances[:-1], nuclei[:-1], strict=True)]
            name = f"squeezed-{'-'.join(chemical_symbols[z] for z in pair)}"
            writer.add(Trajectory(name, frames, teacher.functional, 3), assign_split(name, 0, FRACTIONS))
    print(f"{options.out}: {FRAMES * len(pairs):,} frames")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
