"""Our side of benchmarks/alignn.py: ALIGNN on the same structures, its graphs with alike rows as one or without.

python alignn_side.py WEIGHTS.npz --threads 2
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from flax.traverse_util import flatten_dict, unflatten_dict
from protocol import Job, serve, versions

from mlip.convert.alignn import read
from mlip.convert.checkpoint_files import ReadOptions
from mlip.graph.batching import Shape, graph_sizes, pad_batch, pairs_of
from mlip.graph.stacked_structures import Structures
from mlip.property_model import PropertyModel
from mlip.runtime import set_up_jax
from mlip.training.optimizer import initial_optimizer_state, move
from mlip.training.recipe import TrainRecipe

RECIPE = TrainRecipe(
    epochs=1,
    batch_size=1,
    learning_rate=1e-5,
    optimizer="adamw",
    weight_decay=1e-5,
    decayed=("*/kernel",),
    clip_norm=None,
)


def read_structures(path: str) -> tuple[Structures, np.ndarray]:
    content = json.loads(Path(path).read_text())
    atoms = [
        Atoms(one["symbols"], positions=one["positions"], cell=one["cell"], pbc=True) for one in content["structures"]
    ]
    return Structures.of(atoms), np.array(content["targets"], np.float32)


def batched(model: PropertyModel, path: str, merges: bool):
    """The batch, exactly as large as it must be, its targets, and its sizes."""
    structures, targets = read_structures(path)
    found = replace(model.config.inputs, merges=merges).graphs(structures)
    n_node, n_edge, n_pair = graph_sizes(found).sum(0).tolist()
    batch = pad_batch(found, Shape(n_node + 1, n_edge, len(found) + 1, n_pair))
    sizes = {
        "edges": [int(graph.edges["multiplicity"].sum()) for graph in found],
        "lengths": [float(np.average(g.edges["lengths"], weights=g.edges["multiplicity"])) for g in found],
        "cosines": [_mean_square(pairs_of(graph).columns) for graph in found],
        "rows": [n_node, n_edge, n_pair],
    }
    return batch, targets, sizes


def _mean_square(columns: dict[str, np.ndarray]) -> float:
    return float(np.average(columns["cosines"] ** 2, weights=columns["multiplicity"]))


def graphs(model: PropertyModel, path: str, merges: bool = True) -> Job:
    """From structures to graphs with pairs of bonds."""
    structures, _ = read_structures(path)
    inputs = replace(model.config.inputs, merges=merges)

    def run():
        return inputs.graphs(structures)

    return Job(run, {"edges": [int(graph.edges["multiplicity"].sum()) for graph in run()]})


def forward(model: PropertyModel, path: str, merges: bool = True) -> Job:
    """The network on a batch that is ready."""
    batch, targets, sizes = batched(model, path, merges)
    batch, params = jax.device_put((batch, model.params))
    program = jax.jit(lambda p, b: model.model.apply({"params": p}, b)).lower(params, batch).compile()
    run = lambda: np.asarray(program(params, batch))  # noqa: E731
    operations = (program.cost_analysis() or {}).get("flops", 0.0)
    return Job(run, {"output": run()[: len(targets), 0], "operations": operations} | sizes)


def train(model: PropertyModel, path: str, merges: bool = True) -> Job:
    """A step: forward, L1 loss, backward, AdamW, running statistics where there are some."""
    batch, targets, sizes = batched(model, path, merges)
    batch, targets = jax.device_put((batch, targets))
    by_batch = model.config.has_batch_statistics

    def outputs(params, batch):
        if not by_batch:
            return model.model.apply({"params": params}, batch), {}
        out, state = model.model.apply({"params": params}, batch, total=lambda x: x, mutable=["statistics"])
        return out, state["statistics"]

    def loss_of(params, batch):
        out, statistics = outputs(params, batch)
        out = out[: len(targets), 0]
        return jnp.abs(out - targets).mean(), (out, statistics)

    def step(state, batch):
        params, optimizer_state = state
        (loss, (_, statistics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(params, batch)
        params, optimizer_state = move(RECIPE, params, gradient, optimizer_state, 1e-5)
        if statistics:
            params = unflatten_dict(flatten_dict(params) | flatten_dict(statistics))
        return (params, optimizer_state), loss

    params = jax.tree.map(jnp.array, model.params)  # donated
    at_start = np.asarray(jax.jit(loss_of)(params, batch)[1][0])
    state = params, initial_optimizer_state(RECIPE, params)
    program = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    operations = (program.cost_analysis() or {}).get("flops", 0.0)

    def run() -> float:
        nonlocal state
        state, loss = program(state, batch)
        return float(loss)

    return Job(run, {"output": at_start, "operations": operations} | sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--threads", type=int, required=True, help="how many cores this process is pinned to")
    options = parser.parse_args()
    set_up_jax()
    vectors = options.weights.with_name("vectors.json")
    model = read(options.weights, ReadOptions(predicts="e_form", element_vectors=vectors))
    introduction = {
        "versions": versions("alexandria-mlip", "jax", "jaxlib", "numpy"),
        "threads": options.threads,
        "device": jax.devices()[0].device_kind,
    }
    tasks = (graphs, forward, train)
    serve({task.__name__: lambda path, t=task, **given: t(model, path, **given) for task in tasks}, introduction)


if __name__ == "__main__":
    main()
