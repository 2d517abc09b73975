"""matgl's side of a comparison: a published potential through its calculator, in batches, and in training.

    python matgl_side.py FOLDER --threads 2 [--compile]       (FOLDER holds model.json, model.pt and state.pt)

Runs with matgl and its dependencies alone.
"""

import argparse
import time
from functools import partial
from itertools import cycle

import ase.io
import matgl
import numpy as np
import torch
import torch._functorch.config
from matgl.ext.ase import Atoms2Graph, PESCalculator
from matgl.graph.data import collate_fn_pes
from matgl.utils.training import PotentialLightningModule
from protocol import Job, serve, versions
from torch_geometric.data import Batch

EV_PER_A3_IN_GPA = 160.21766208  # theirs


def calculator(potential, structures: str) -> Job:
    """A step is a new frame of the file through the ASE calculator: energy, forces, stress."""
    frames = ase.io.read(structures, ":")
    atoms = frames[0].copy()
    atoms.calc = PESCalculator(potential, stress_unit="eV/A3", use_voigt=True)
    trajectory = cycle([frame.positions for frame in frames])

    def step():
        atoms.positions = next(trajectory)
        return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()

    energy, forces, stress = step()
    return Job(step, {"energy": [energy], "forces": forces, "stress": [stress]})


def many(potential, structures: str) -> Job:
    """Each structure of the file once, with a calculator of its own. Timed here: a second time is not asked for."""
    frames = ase.io.read(structures, ":")
    started = time.perf_counter()
    for atoms in frames:
        atoms.calc = PESCalculator(potential, stress_unit="eV/A3", use_voigt=True)
        atoms.get_potential_energy()
        atoms.get_forces()
    return Job(lambda: None, {"seconds": time.perf_counter() - started})


def predict(potential, structures: str) -> Job:
    """All structures of the file as one batch, from atoms to results."""
    frames = ase.io.read(structures, ":")

    def run():
        graph, lattices, state = _batch(_graphs(potential, frames))
        return [tensor.detach().cpu().numpy() for tensor in potential(graph, lattices, state)[:3]]

    energy, forces, stress = run()
    voigt = stress.reshape(-1, 9)[:, [0, 4, 8, 5, 2, 1]] / EV_PER_A3_IN_GPA
    return Job(run, {"energy": energy, "forces": forces, "stress": voigt})


def model(potential, structures: str) -> Job:
    """Energies, forces and stresses of one batch whose graphs are ready (matgl lists triplets in its forward pass)."""
    graph, lattices, state = _batch(_graphs(potential, ase.io.read(structures, ":")))
    return Job(lambda: potential(graph, lattices, state), {})


def training_step(potential, structures: str) -> Job:
    """The step of matgl's Lightning module on all structures of the file: loss, its gradient, Adam."""
    frames = ase.io.read(structures, ":")
    module = PotentialLightningModule(
        potential.model,
        element_refs=potential.element_refs.property_offset.cpu().numpy(),
        data_mean=float(potential.data_mean),
        data_std=float(potential.data_std),
        energy_weight=1.0,
        force_weight=1.0,
        stress_weight=0.1,
        lr=1e-6,  # the same weights, but for noise, whatever the number of repeats
    )
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=module.lr)
    batch = collate_fn_pes(
        [(*graph, _labels(atoms.calc.results)) for graph, atoms in zip(_graphs(potential, frames), frames, strict=True)]
    )

    def step():
        results, _ = module.step(batch)
        optimizer.zero_grad(set_to_none=True)
        results["Total_Loss"].backward()
        optimizer.step()
        return results

    first = step()
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    check = {
        "energy_mae": first["Energy_MAE"].item(),
        "forces_mae": first["Force_MAE"].item(),
        "gradient_norm": torch.nn.utils.get_total_norm(gradients).item(),
    }
    return Job(step, check)


def _graphs(potential, frames) -> list[tuple]:
    """(graph, lattice, state) of each structure."""
    converter = Atoms2Graph(potential.model.element_types, potential.model.cutoff)
    graphs = [converter.get_graph(atoms) for atoms in frames]
    return [(graph, lattice, torch.as_tensor(state, dtype=matgl.float_th)) for graph, lattice, state in graphs]


def _batch(graphs: list[tuple]) -> tuple:
    data, lattices, states = zip(*graphs, strict=True)
    return Batch.from_data_list(list(data)), torch.cat(lattices), torch.stack(states)


def _labels(results: dict) -> dict:
    xx, yy, zz, yz, xz, xy = results["stress"] * EV_PER_A3_IN_GPA
    stress = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
    return {
        "energies": results["energy"],
        "forces": torch.tensor(results["forces"], dtype=matgl.float_th),
        "stresses": torch.tensor(np.array(stress), dtype=matgl.float_th),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--compile", action="store_true", help="what Potential(compile_model=True) does, an opt-in")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    potential = matgl.load_model(options.folder)
    potential.eval()
    elements, cutoff = potential.model.element_types, float(potential.model.cutoff)
    if options.compile:
        torch._functorch.config.donated_buffer = False  # as matgl does: forces are differentiated twice
        potential.model = torch.compile(potential.model, dynamic=True)
    tasks = (calculator, many, predict, model, training_step)
    introduction = {
        "versions": versions("matgl", "torch", "torch-geometric", "numpy", "ase"),
        "threads": torch.get_num_threads(),
        "elements": list(elements),
        "cutoff": cutoff,
    }
    serve({task.__name__: partial(task, potential) for task in tasks}, introduction)


if __name__ == "__main__":
    main()
