"""MatterSim's own code on structures, in float64 as far as it can be brought to it, and random weights for it."""

from contextlib import contextmanager

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, molecule

DIMENSIONS = {"1M": {"num_blocks": 3, "units": 128}, "5M": {"num_blocks": 4, "units": 256}}


def structures() -> list[Atoms]:
    """Skewed, left-handed, one atom, no neighbors, layers, a molecule in a box, a dense and a hydrogen-rich one."""
    salt = bulk("NaCl", "rocksalt", a=5.3, cubic=True)
    salt.rattle(0.1, seed=1)
    skewed = bulk("Si", "diamond", a=5.4)
    skewed.set_cell(skewed.cell.array @ np.array([[1, 0.4, 0.3], [0, 1, 0.5], [0, 0, 1]]), scale_atoms=True)
    skewed.rattle(0.1, seed=2)
    left_handed = bulk("Cu", cubic=True)
    left_handed.set_cell(left_handed.cell.array[[1, 0, 2]])
    left_handed.rattle(0.1, seed=3)
    layer = fcc111("Al", (1, 1, 3), vacuum=8.0)
    layer.rattle(0.1, seed=4)
    chain = Atoms("OTi", [[0, 0, 0], [1.9, 0.2, 0]], cell=[3.9, 12, 12], pbc=(True, False, False))
    water = molecule("H2O", vacuum=6.0)
    water.pbc = True
    return [
        salt,
        skewed,
        left_handed,
        bulk("Fe"),
        bulk("Xe", "fcc", a=12.0),
        layer,
        chain,
        water,
        bulk("W", a=2.6),
    ]


def network(num_blocks: int, units: int, seed: int = 0, **others):
    """Their module with random weights, of the size that trained ones have, and scales and shifts of elements."""
    import torch
    from mattersim.forcefield.m3gnet.m3gnet import M3Gnet

    torch.manual_seed(seed)
    model = M3Gnet(device="cpu", num_blocks=num_blocks, units=units, **others)
    with torch.no_grad():
        model.atom_embedding.mlp[0].linear.weight.uniform_(-1, 1)
        model.normalizer.scale.uniform_(1, 3)
        model.normalizer.shift.uniform_(-8, 0)
    return model


def save(model, path):
    """A checkpoint as mattersim itself writes it."""
    from mattersim.forcefield.potential import Potential

    Potential(model, device="cpu").save(str(path))
    return path


@contextmanager
def _double():
    """What it makes in float32 whatever its parameters are, in float64."""
    import torch

    kept = torch.get_default_dtype(), torch.FloatTensor, torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.FloatTensor, torch.Tensor.float = torch.DoubleTensor, torch.Tensor.double
    try:
        yield
    finally:
        torch.set_default_dtype(kept[0])
        torch.FloatTensor, torch.Tensor.float = kept[1:]


def their_results(model, atoms: Atoms) -> dict:
    """Energy, forces and stress by their calculator, in float64."""
    from mattersim.forcefield.potential import MatterSimCalculator, Potential

    with _double():
        calculator = MatterSimCalculator(potential=Potential(model.double().eval(), device="cpu"), device="cpu")
        calculator.calculate(atoms.copy())
    return calculator.results
