"""A small labeled world: strained, rattled crystals of four metals on ASE's EMT surface."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.data import Frame, StoreWriter, Trajectory

TINY_RECIPE = """
data: {store: STORE, workers: 0}
model: {model: m3gnet, cutoff: 3.6, three_body_cutoff: 3.2, units: 8, n_blocks: 1, max_n: 2, max_l: 2}
loss: {kind: huber, huber_delta: 0.1, stress: 0.01}
train: {epochs: 3, batch_size: 8, learning_rate: 0.01, schedule: {warmup_steps: 2}, ema_decay: 0.9}
out: OUT
"""


def emt_frames(n_frames: int, seed: int, symbols=("Cu", "Al", "Ni", "Ag")) -> list[Frame]:
    """Two-atom cells, elements at random, up to 4 % strain and 0.1 A displacement."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        atoms = bulk("Cu", "fcc", a=3.9).repeat((2, 1, 1))
        atoms.symbols = rng.choice(symbols, size=len(atoms))
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.uniform(-0.04, 0.04, (3, 3))), scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
        frames.append(emt_frame(atoms))
    return frames


def emt_frame(atoms: Atoms) -> Frame:
    """A structure with EMT's labels."""
    atoms.calc = EMT()
    labels = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, *labels)


def write_store(path: Path, frames: list[Frame], *, functional: str = "EMT surrogate", n_validation: int = 8) -> Path:
    """A frame a material; the last ones for validation and as many for test."""
    splits = ["train"] * (len(frames) - 2 * n_validation) + ["val"] * n_validation + ["test"] * n_validation
    with StoreWriter(path) as store:
        for index, (frame, split) in enumerate(zip(frames, splits, strict=True)):
            store.add(Trajectory(f"emt-{index}", (frame,), functional, 3), split)
    return path
