"""Tiny potentials whose parameters differ a little, as those of seeds do, and a store of labels by another one."""

from pathlib import Path

import ase.build
import jax
import numpy as np
from ase import Atoms

from mlip.data import Frame, StoreWriter, Trajectory
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata

ELEMENTS = {"Cu": -3.1, "Na": -1.3, "Cl": -1.8, "Si": -5.4}


def network(seed: int = 0) -> tuple[M3GNetConfig, dict]:
    config = M3GNetConfig(units=6, n_blocks=1)
    return config, init_parameters(config, seed)


def seeds(n: int, size: float = 0.02, scale: float = 1.7, references: float = 0.0) -> list[Potential]:
    """Potentials of one network, whose parameters differ by about this size.

    Args:
        scale, references: of the first; others have slightly larger ones if `references` is not 0.
    """
    config, params = network()
    rng = np.random.default_rng(5)

    def changed(k: int) -> Potential:
        own = jax.tree.map(lambda leaf: np.asarray(leaf + size * rng.normal(size=leaf.shape), np.float32), params)
        energies = {symbol: energy + k * references for symbol, energy in ELEMENTS.items()}
        metadata = PotentialMetadata(
            reference_energies=energies, scale=scale + k * references, shift=0.2, functional="PBE", precision="float32"
        )
        return Potential(config, own, metadata)

    return [changed(k) for k in range(n)]


def crystals() -> list[Atoms]:
    silicon = ase.build.bulk("Si")
    silicon.rattle(0.1, seed=1)
    return [
        ase.build.bulk("NaCl", "rocksalt", a=5.6),
        silicon,
        ase.build.bulk("Cu", cubic=True),
        ase.build.molecule("NaCl", vacuum=4.0),
    ]


def cubic() -> Atoms:
    """A crystal near its minimum under these potentials, whose atoms follow the cell by symmetry."""
    return ase.build.bulk("NaSi", "zincblende", a=5.0)


def layer() -> Atoms:
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.cell[2, 2] = 20.0
    return atoms


def write_store(path: Path, teacher: Potential, n_materials: int = 60) -> Path:
    """Strained and rattled cells of known elements, two thirds for fitting, one third held out; labels of `teacher`."""
    rng = np.random.default_rng(11)
    prototypes = [*crystals()[:3], layer()]
    with StoreWriter(path) as writer:
        for k in range(n_materials):
            frames = []
            for _ in range(4):
                atoms = prototypes[k % 4].copy()
                atoms.set_cell(atoms.cell.array * (1 + 0.05 * rng.normal()), scale_atoms=True)
                atoms.rattle(0.08, rng=rng)
                frames.append(atoms)
            labels = teacher.predict(frames)
            frames = [
                Frame(a.numbers, a.positions, a.cell.array, a.pbc, energy=label["energy"], forces=label["forces"])
                for a, label in zip(frames, labels, strict=True)
            ]
            dimensionality = 2 if k % 4 == 3 else 3
            split = "val" if k % 3 == 0 else "train"
            writer.add(Trajectory(f"agm{k:09d}", frames, "PBE", dimensionality), split)
    return path
