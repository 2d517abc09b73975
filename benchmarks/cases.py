"""What programs are timed on: real crystals, chosen from files by size and written where all sides read them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from mlip.graph.neighbors import neighbor_list

VIBRATION_STEPS = 100


@dataclass(frozen=True)
class Case:
    """One line of a table: a file of structures and what is done with them."""

    name: str
    task: str
    path: Path
    n_atoms: list[int]
    """Of each structure whose results are compared."""
    n_edges: int

    def describe(self) -> dict[str, Any]:
        return {
            "case": self.name,
            "structures": len(self.n_atoms),
            "atoms": sum(self.n_atoms),
            "edges": self.n_edges,
        }


def cell_case(atoms: Atoms, folder: Path, cutoff: float) -> Case:
    """A vibration of one cell through the calculator."""
    path = folder / f"cell{len(atoms)}.extxyz"
    ase.io.write(path, vibration(atoms))
    name = f"cell of {len(atoms)}, {atoms.get_chemical_formula(mode='metal')}"
    return Case(name, "calculator", path, [len(atoms)], n_edges(atoms, cutoff))


def batch_case(structures: list[Atoms], task: str, size: int, folder: Path, cutoff: float) -> Case:
    """`task` on `size` of the structures, in an order that is random and always the same; from the start again where
    there are fewer."""
    order = np.random.default_rng(0).permutation(len(structures))
    members = [structures[order[k % len(order)]] for k in range(size)]
    path = folder / f"batch{size}.extxyz"
    ase.io.write(path, members)
    edges = sum(n_edges(atoms, cutoff) for atoms in members)
    return Case(f"{task.replace('_', ' ')}, batch of {size}", task, path, [len(atoms) for atoms in members], edges)


def n_edges(atoms: Atoms, cutoff: float) -> int:
    """Bonds up to `cutoff`, A, each counted from both ends."""
    return len(neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, cutoff).receivers)


def representative(structures: list[Atoms], n_atoms: int, cutoff: float) -> Atoms:
    """Of the crystals whose size is nearest to `n_atoms` the one with the median number of edges."""
    distance = min(abs(len(atoms) - n_atoms) for atoms in structures)
    nearest = [atoms for atoms in structures if abs(len(atoms) - n_atoms) == distance]
    return sorted(nearest, key=lambda atoms: n_edges(atoms, cutoff))[len(nearest) // 2]


def vibration(atoms: Atoms) -> list[Atoms]:
    """Frames of a periodic motion like that of molecular dynamics: 0.05 A, 50 or 100 steps a period."""
    rng = np.random.default_rng(0)
    shape = (len(atoms), 3)
    amplitude, phase = rng.normal(scale=0.05, size=shape), rng.uniform(0, 2 * np.pi, shape)
    cycles = rng.integers(1, 3, shape)
    frames = []
    for step in range(VIBRATION_STEPS):
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.positions += amplitude * np.sin(2 * np.pi * cycles * step / VIBRATION_STEPS + phase)
        frames.append(frame)
    return frames
