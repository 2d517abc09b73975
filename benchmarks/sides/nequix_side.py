"""Nequix's side of a comparison: a checkpoint (.nqx) through its calculator, in batches and in training, by its JAX
without kernels.

    python nequix_side.py nequix-oam-1.nqx --threads 1

Runs with nequix and its dependencies alone.
"""

import argparse
import sys
import types
from functools import partial
from itertools import cycle
from pathlib import Path

import ase.io
import equinox as eqx
import jax
import jraph
import numpy as np
import optax
from ase.data import chemical_symbols
from nequix.calculator import NequixCalculator
from nequix.data import dict_to_graphstuple, preprocess_graph
from protocol import Job, serve, versions

EV_PER_A3_IN_GPA = 160.2176634
VOIGT = [0, 4, 8, 5, 2, 1]


def calculator(calculator: NequixCalculator, structures: str) -> Job:
    """A step is a new frame of the file through the ASE calculator: energy, forces, stress."""
    frames = ase.io.read(structures, ":")
    atoms = frames[0].copy()
    atoms.calc = calculator
    trajectory = cycle([frame.positions for frame in frames])

    def step():
        atoms.positions = next(trajectory)
        return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()

    energy, forces, stress = step()
    for _ in frames:
        step()
    return Job(step, {"energy": [energy], "forces": forces, "stress": [stress]})


def predict(calculator: NequixCalculator, structures: str) -> Job:
    """All structures of the file as one batch, from atoms to results."""
    frames = ase.io.read(structures, ":")
    evaluate = eqx.filter_jit(calculator.model)

    def run():
        return jax.device_get(evaluate(_batch(calculator, frames)))

    return Job(run, _check(run(), frames))


def model(calculator: NequixCalculator, structures: str) -> Job:
    """Energies, forces and stresses of one batch whose graphs are ready."""
    frames = ase.io.read(structures, ":")
    evaluate, batch = eqx.filter_jit(calculator.model), jax.device_put(_batch(calculator, frames))
    results = jax.device_get(evaluate(batch))
    return Job(lambda: jax.block_until_ready(evaluate(batch)), _check(results, frames))


def training_step(calculator: NequixCalculator, structures: str) -> Job:
    """A step of its training on all structures of the file: its loss (squares), the gradient, Adam."""
    sys.modules.setdefault("wandb", types.ModuleType("wandb"))  # its loggers, which no step needs
    hooks = types.ModuleType("wandb_osh.hooks")
    hooks.TriggerWandbSyncHook = None
    sys.modules.setdefault("wandb_osh", types.ModuleType("wandb_osh"))
    sys.modules.setdefault("wandb_osh.hooks", hooks)
    from nequix.train import loss

    frames = ase.io.read(structures, ":")
    batch = jax.device_put(_batch(calculator, frames, targets=True))
    optimizer = optax.adam(1e-6)
    network = calculator.model
    state = optimizer.init(eqx.filter(network, eqx.is_array))
    weights = (1.0, 1.0, 0.1 * EV_PER_A3_IN_GPA**2)

    @eqx.filter_jit
    def take_step(network, state):
        gradient_of = eqx.filter_value_and_grad(loss, has_aux=True)
        (_, metrics), gradient = gradient_of(network, batch, *weights, loss_type="mse")
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(network, updates), state, metrics, optax.tree.norm(gradient)

    def step():
        nonlocal network, state
        network, state, *report = take_step(network, state)
        return jax.block_until_ready(report)

    metrics, norm = jax.device_get(step())
    check = {"energy_mae": metrics["energy_mae_per_atom"], "forces_mae": metrics["force_mae"], "gradient_norm": norm}
    return Job(step, check)


def _batch(calculator: NequixCalculator, frames, targets: bool = False) -> jraph.GraphsTuple:
    """As its loader makes them: one after another, padded as its calculator pads."""
    graphs = [
        dict_to_graphstuple(preprocess_graph(atoms, calculator.atom_indices, calculator.cutoff, targets))
        for atoms in frames
    ]
    batch = jraph.batch_np(graphs)
    n_nodes, n_edges = int(batch.n_node.sum()), int(batch.n_edge.sum())
    return jraph.pad_with_graphs(batch, (n_nodes // 8 + 1) * 8, -(-n_edges // 64) * 64, len(frames) + 1)


def _check(results, frames) -> dict:
    energy, forces, stress = (np.asarray(result) for result in results)
    n_atoms = sum(map(len, frames))
    voigt = stress.reshape(-1, 9)[: len(frames), VOIGT]
    return {"energy": energy[: len(frames)], "forces": forces[:n_atoms], "stress": voigt}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    its = NequixCalculator(model_path=options.checkpoint, backend="jax", use_kernel=False)
    introduction = {
        "versions": versions("nequix", "jax", "equinox", "e3nn-jax", "numpy", "ase"),
        "threads": options.threads,
        "elements": [chemical_symbols[z] for z in its.config["atomic_numbers"]],
        "cutoff": its.cutoff,
    }
    serve({task.__name__: partial(task, its) for task in (calculator, predict, model, training_step)}, introduction)


if __name__ == "__main__":
    main()
