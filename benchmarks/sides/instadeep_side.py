"""The side of InstaDeep's `mlip` in a comparison: its MACE of given dimensions through its calculator, in batches, in
training.

    python instadeep_side.py CONFIG_config.json --threads 2

Runs with that package and its dependencies alone; it is imported under the same name as ours. The config is the one
that mace-torch's side reads, the weights are random, as the two have not the same parameters. Everything else is as the
package has it by default: backends, graphs, padding of cells; batches are told the size that they need.
"""

import argparse
import json
import logging
from functools import partial
from itertools import cycle
from math import ceil
from pathlib import Path

import ase.io
import jax
import optax
from matscipy.neighbours import neighbour_list
from mlip.models.loss import MSELoss
from mlip.simulation.ase.mlip_ase_calculator import MLIPForceFieldASECalculator
from mlip.simulation.configs.simulation_config import DEFAULT_EDGE_CAPACITY_MULT
from mlip.training.ema import exponentially_moving_average
from mlip.training.training_state import init_training_state
from mlip.training.training_step import make_train_step
from mlip.typing.properties import Properties
from protocol import Job, serve, versions

from mlip.data import ASEAtomsReader, DatasetInfo, GraphDatasetBuilderConfig, SingleGraphDatasetBuilder
from mlip.models import ForceField, Mace

EV_PER_A3_IN_GPA = 160.21766208


def build(config: dict) -> ForceField:
    """With random weights; energies, forces and stresses."""
    info = DatasetInfo(
        atomic_energies_map=dict(zip(config["zs"], config["atomic_energies"], strict=True)),
        graph_cutoff_angstrom=config["r_max"],
        avg_num_neighbors=config["avgn"],
    )
    network_config = Mace.Config(
        num_layers=config["nint"],
        num_channels=int(config["hidden"].partition("x")[0]),
        l_max=config["max_ell"],
        node_symmetry=config["hidden"].count("+"),
        correlation=config["corr"],
        readout_irreps=(config["MLP"], "0e"),
        num_rbf=config["num_bessel"],
        radial_mlp_hidden=config["radial_MLP"],
        residual_connection_first_layer="Residual" in config["first"],
    )
    return ForceField.from_mlip_network(Mace(network_config, info), Properties(stress=True))


def calculator(field: ForceField, structures: str) -> Job:
    """A step is a new frame of the file through the ASE calculator: energy and forces. The program evaluates the
    stress too, which the calculator does not hand out."""
    frames = ase.io.read(structures, ":")
    atoms = frames[0].copy()
    atoms.calc = MLIPForceFieldASECalculator(atoms, DEFAULT_EDGE_CAPACITY_MULT, field)
    trajectory = cycle([frame.positions for frame in frames])

    def step():
        atoms.positions = next(trajectory)
        return atoms.get_potential_energy(), atoms.get_forces()

    energy, forces = step()
    return Job(step, {"energy": [energy], "forces": forces})


def predict(field: ForceField, structures: str) -> Job:
    """All structures of the file as one batch, from atoms to results: what `run_batched_inference` does, but compiled
    once, where that compiles in every call."""
    frames = ase.io.read(structures, ":")
    limits, evaluate = _limits(field, frames), jax.jit(field)

    def run():
        return jax.device_get(evaluate(_batch(field, frames, limits)))

    run()
    return Job(run, {})


def model(field: ForceField, structures: str) -> Job:
    """Energies, forces and stresses of one batch whose graphs are ready."""
    frames = ase.io.read(structures, ":")
    batch = jax.device_put(_batch(field, frames, _limits(field, frames)))
    program = jax.jit(field).lower(batch).compile()
    return Job(lambda: jax.block_until_ready(program(batch)), {}, _memory(program))


def training_step(field: ForceField, structures: str) -> Job:
    """A step of its training loop on all structures of the file: loss, its gradient, Adam; the batch is ready."""
    frames = ase.io.read(structures, ":")
    batch = jax.device_put(_batch(field, frames, _limits(field, frames)))
    weights = (1.0, 1.0, 0.1 * EV_PER_A3_IN_GPA**2)
    loss = MSELoss(*(lambda _, weight=weight: weight for weight in weights))
    optimizer, ema = optax.adam(1e-6), exponentially_moving_average()
    take_step = make_train_step(field.predictor, loss, optimizer, ema, avg_n_graphs_per_batch=len(frames))
    state = init_training_state(field.params, optimizer, ema)
    program = take_step.lower(state, batch, 0).compile()

    def step():
        nonlocal state
        state, metrics = program(state, batch, 0)
        return jax.block_until_ready((state, metrics))

    step()
    return Job(step, {}, _memory(program))


def _memory(program: jax.stages.Compiled) -> int:
    """Bytes of the arguments, the results and all between them."""
    taken = program.memory_analysis()
    buffers = taken.temp_size_in_bytes + taken.argument_size_in_bytes + taken.output_size_in_bytes
    return buffers - taken.alias_size_in_bytes  # results that lie where donated arguments were


def _limits(field: ForceField, frames) -> dict[str, int]:
    """With which all frames are one batch with little padding; those it finds for itself make several of them."""
    n_edges = sum(len(neighbour_list("i", atoms, field.cutoff_distance)) for atoms in frames)
    return {
        "max_n_node": ceil(sum(map(len, frames)) / len(frames)),  # of a frame
        "max_n_edge": ceil(n_edges / (2 * len(frames))),  # it reserves twice as many
    }


def _batch(field: ForceField, frames, limits: dict[str, int]):
    """All frames as `run_batched_inference` prepares them."""
    config = GraphDatasetBuilderConfig(
        graph_cutoff_angstrom=field.cutoff_distance,
        batch_size=len(frames),
        discard_graphs_without_edges=False,
        **limits,
    )
    builder = SingleGraphDatasetBuilder(ASEAtomsReader(frames), config, dataset_info=field.dataset_info)
    (batch,) = builder.get_dataset(prefetch=False)
    return batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--threads", type=int, required=True, help="how many cores this process is pinned to")
    options = parser.parse_args()
    logging.getLogger("mlip").setLevel(logging.WARNING)
    config = json.loads(options.config.read_text())
    field = build(config)
    introduction = {
        "versions": versions("mlip", "e3j", "jax", "jaxlib", "flax", "numpy", "ase"),
        "threads": options.threads,
        "device": jax.devices()[0].device_kind,
        "elements": [ase.data.chemical_symbols[z] for z in sorted(field.allowed_atomic_numbers)],
        "cutoff": field.cutoff_distance,
    }
    tasks = (calculator, predict, model, training_step)
    serve({task.__name__: partial(task, field) for task in tasks}, introduction)


if __name__ == "__main__":
    main()
