"""SevenNet's side of a comparison: a checkpoint (.pth) through its calculator, in batches and in training.

    python sevenn_side.py checkpoint_sevennet_0.pth --threads 1

Runs with sevenn and its dependencies alone.
"""

import argparse
from functools import partial
from itertools import cycle

import ase.io
import numpy as np
import sevenn._keys as key
import torch
from ase.data import chemical_symbols
from protocol import Job, serve, versions
from sevenn.atom_graph_data import AtomGraphData
from sevenn.calculator import SevenNetCalculator
from sevenn.train.dataload import unlabeled_atoms_to_graph
from torch_geometric.loader.dataloader import Collater

EV_PER_A3_IN_GPA = 160.2176634
VOIGT = [0, 1, 2, 4, 5, 3]  # of theirs: xx yy zz xy yz zx


def calculator(calculator: SevenNetCalculator, structures: str) -> Job:
    """A step is a new frame of the file through the ASE calculator: energy, forces, stress."""
    frames = ase.io.read(structures, ":")
    atoms = frames[0].copy()
    calculator.model.set_is_batch_data(False)
    calculator.model.eval()
    atoms.calc = calculator
    trajectory = cycle([frame.positions for frame in frames])

    def step():
        calculator.model.set_is_batch_data(False)
        atoms.positions = next(trajectory)
        return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()

    energy, forces, stress = step()
    for _ in frames:
        step()
    return Job(step, {"energy": [energy], "forces": forces, "stress": [stress]})


def predict(calculator: SevenNetCalculator, structures: str) -> Job:
    """All structures of the file as one batch, from atoms to results."""
    frames = ase.io.read(structures, ":")
    calculator.model.eval()

    def run():
        return _evaluate(calculator.model, _batch(calculator, frames))

    return Job(run, run())


def model(calculator: SevenNetCalculator, structures: str) -> Job:
    """Energies, forces and stresses of one batch whose graphs are ready."""
    frames = ase.io.read(structures, ":")
    calculator.model.eval()
    batch = _batch(calculator, frames)
    return Job(lambda: _evaluate(calculator.model, batch), _evaluate(calculator.model, batch))


def training_step(calculator: SevenNetCalculator, structures: str) -> Job:
    """A step on all structures of the file: squares of its errors, their gradient, Adam."""
    frames = ase.io.read(structures, ":")
    network = calculator.model
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6)
    batch = _batch(calculator, frames)
    sizes = torch.tensor([len(atoms) for atoms in frames])
    energies = torch.tensor([atoms.get_potential_energy() for atoms in frames], dtype=torch.float32)
    forces = torch.tensor(np.concatenate([atoms.get_forces() for atoms in frames]), dtype=torch.float32)
    stresses = torch.tensor(np.array([atoms.get_stress() for atoms in frames]), dtype=torch.float32)
    of_nine = torch.tensor([2 / 3] * 3 + [4 / 3] * 3)

    def step():
        network.train()
        network.set_is_batch_data(True)
        optimizer.zero_grad()
        output = network(batch.clone())
        energy = (output[key.PRED_TOTAL_ENERGY] - energies) / sizes
        force = output[key.PRED_FORCE] - forces
        stress = (-output[key.PRED_STRESS][:, VOIGT] - stresses) * EV_PER_A3_IN_GPA
        loss = (energy**2).mean() + (force**2).mean() + 0.1 * (of_nine * stress**2).mean()
        loss.backward()
        optimizer.step()
        return {"energy_mae": energy.abs().mean().item(), "forces_mae": force.abs().mean().item()}

    return Job(step, step())


def _batch(calculator: SevenNetCalculator, frames):
    graphs = [
        AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, calculator.cutoff, with_shift=True))
        for atoms in frames
    ]
    return Collater([], follow_batch=None, exclude_keys=[key.INFO])(graphs)


def _evaluate(network, batch) -> dict:
    network.set_is_batch_data(True)
    output = network(batch.clone())
    stress = -output[key.PRED_STRESS].detach().numpy().reshape(-1, 6)[:, VOIGT]
    return {
        "energy": output[key.PRED_TOTAL_ENERGY].detach().numpy().reshape(-1),
        "forces": output[key.PRED_FORCE].detach().numpy(),
        "stress": stress,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    its = SevenNetCalculator(options.checkpoint, device="cpu")
    introduction = {
        "versions": versions("sevenn", "torch", "e3nn", "numpy", "ase"),
        "threads": torch.get_num_threads(),
        "elements": [chemical_symbols[z] for z in its.type_map],
        "cutoff": its.cutoff,
    }
    serve({task.__name__: partial(task, its) for task in (calculator, predict, model, training_step)}, introduction)


if __name__ == "__main__":
    main()
