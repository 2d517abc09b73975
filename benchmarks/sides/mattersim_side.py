"""MatterSim's side of a comparison: a checkpoint through its calculator and in batches; or a checkpoint of random
weights in the dimensions of a published model.

    python mattersim_side.py model.pth --threads 1
    python mattersim_side.py model.pth --make 1M

Runs with mattersim and its dependencies alone.
"""

import argparse
import os
from functools import partial
from itertools import cycle

import ase.io
import numpy as np
import torch
from ase.data import chemical_symbols
from mattersim.datasets.utils.build import build_dataloader
from mattersim.forcefield.m3gnet.m3gnet import M3Gnet
from mattersim.forcefield.potential import MatterSimCalculator, Potential, batch_to_dict
from protocol import Job, serve, versions

DIMENSIONS = {"1M": {"num_blocks": 3, "units": 128}, "5M": {"num_blocks": 4, "units": 256}}
EV_PER_A3_IN_GPA = 160.21766208  # theirs


def make(path: str, size: str) -> None:
    """Write a checkpoint as mattersim does; the embedding is as large as trained ones are."""
    torch.manual_seed(0)
    model = M3Gnet(device="cpu", **DIMENSIONS[size])
    with torch.no_grad():
        model.atom_embedding.mlp[0].linear.weight.uniform_(-1, 1)
    Potential(model, device="cpu").save(os.path.abspath(path))


def calculator(potential: Potential, structures: str) -> Job:
    """A step is a new frame of the file through the ASE calculator: energy, forces, stress."""
    frames = ase.io.read(structures, ":")
    atoms = frames[0].copy()
    atoms.calc = MatterSimCalculator(potential, device="cpu")
    trajectory = cycle([frame.positions for frame in frames])

    def step():
        atoms.positions = next(trajectory)
        return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()

    energy, forces, stress = step()
    return Job(step, {"energy": [energy], "forces": forces, "stress": [stress]})


def predict(potential: Potential, structures: str) -> Job:
    """All structures of the file as one batch, from atoms to results."""
    frames = ase.io.read(structures, ":")

    def run():
        return _evaluate(potential, _batch(frames))

    energy, forces, stress = run()
    voigt = stress.reshape(-1, 9)[:, [0, 4, 8, 5, 2, 1]] / EV_PER_A3_IN_GPA
    return Job(run, {"energy": energy, "forces": forces, "stress": voigt})


def model(potential: Potential, structures: str) -> Job:
    """Energies, forces and stresses of one batch whose graphs, triplets included, are ready."""
    batch = _batch(ase.io.read(structures, ":"))
    return Job(lambda: _evaluate(potential, batch), {})


def _batch(frames):
    (batch,) = build_dataloader(frames, batch_size=len(frames), only_inference=True)
    return batch


def _evaluate(potential: Potential, batch) -> list[np.ndarray]:
    results = potential.forward(batch_to_dict(batch, device="cpu"), include_forces=True, include_stresses=True)
    return [results[key].detach().numpy() for key in ("total_energy", "forces", "stresses")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--make", choices=DIMENSIONS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.make:
        make(options.checkpoint, options.make)
        return
    torch.set_num_threads(options.threads)
    potential = Potential.from_checkpoint(options.checkpoint, device="cpu", load_training_state=False)
    introduction = {
        "versions": versions("mattersim", "torch", "torch-geometric", "numpy", "ase"),
        "threads": torch.get_num_threads(),
        "elements": chemical_symbols[1 : potential.model.max_z + 1],
        "cutoff": potential.model.model_args["cutoff"],
    }
    serve({task.__name__: partial(task, potential) for task in (calculator, predict, model)}, introduction)


if __name__ == "__main__":
    main()
