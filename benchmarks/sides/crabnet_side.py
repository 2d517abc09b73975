"""Our side of benchmarks/crabnet.py: CrabNet on a batch of compositions that is ready, and from formulas.

python crabnet_side.py WEIGHTS.npz --threads 2
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from protocol import Job, serve, versions

sys.path.append(str(Path(__file__).parent.parent))
from flops import matmul_flops

from mlip.convert.checkpoint_files import ReadOptions
from mlip.convert.crabnet import read
from mlip.graph.composition import CompositionBatch, Compositions, compositions_of_formulas, pad_compositions
from mlip.models.crabnet import CrabNet, jittered
from mlip.property_model import PropertyModel
from mlip.runtime import set_up_jax
from mlip.training.optimizer import initial_optimizer_state, move
from mlip.training.properties.property_loss import property_penalty
from mlip.training.recipe import LookaheadRecipe, TrainRecipe

RECIPE = TrainRecipe(
    epochs=1, batch_size=1, learning_rate=1e-4, optimizer="lamb", lookahead=LookaheadRecipe(), clip_norm=None
)


PEAK_SIZE = 2048


def batch_of(path: str) -> tuple[CompositionBatch, np.ndarray]:
    arrays = np.load(path)
    return pad_compositions(Compositions(arrays["species"], arrays["fractions"])), arrays["targets"]


def forward(model: PropertyModel, path: str) -> Job:
    """The network on a batch that is ready."""
    batch, _ = batch_of(path)
    batch, variables = jax.device_put((batch, {"params": model.params}))
    program = jax.jit(CrabNet(model.config).apply).lower(variables, batch).compile()
    check = {"output": np.asarray(program(variables, batch))}
    return Job(
        lambda: np.asarray(program(variables, batch)),
        check | {"matmul_flops": matmul_flops(CrabNet(model.config).apply, variables, batch)},
    )


def train(model: PropertyModel, path: str) -> Job:
    """A step: noise on fractions, forward, loss, backward, LAMB with look-ahead."""
    network = CrabNet(model.config)
    batch, targets = jax.device_put(batch_of(path))

    def loss_of(params, batch, key=None):
        rngs = {"dropout": key} if key is not None else None
        outputs = network.apply({"params": params}, batch, key is None, rngs=rngs)
        return property_penalty(outputs, targets, "robust_mae").mean()

    def step(state, batch):
        params, optimizer_state, key = state
        key, of_noise, of_dropout = jax.random.split(key, 3)
        loss, gradient = jax.value_and_grad(loss_of)(params, jittered(batch, of_noise), of_dropout)
        params, optimizer_state = move(RECIPE, params, gradient, optimizer_state, 1e-4)
        return (params, optimizer_state, key), loss

    params = jax.tree.map(jnp.array, model.params)  # donated
    at_start = float(jax.jit(loss_of)(params, batch))
    state = params, initial_optimizer_state(RECIPE, params), jax.random.key(0, impl="rbg")
    program = jax.jit(step, donate_argnums=0).lower(state, batch).compile()

    def run() -> float:
        nonlocal state
        state, loss = program(state, batch)
        return float(loss)

    return Job(run, {"loss": at_start, "matmul_flops": matmul_flops(step, state, batch)})


def peak(model: PropertyModel, path: str) -> Job:
    """A large matrix product."""
    square = jax.random.normal(jax.random.key(0), (PEAK_SIZE, PEAK_SIZE))
    multiply = jax.jit(jnp.matmul).lower(square, square).compile()
    return Job(lambda: jax.block_until_ready(multiply(square, square)), {"matmul_flops": 2 * PEAK_SIZE**3})


def screen(model: PropertyModel, path: str) -> Job:
    """From formulas to outputs, in batches of one size, compositions of few elements first."""
    formulas, size = np.load(path)["formulas"].tolist(), 1024
    program, variables = jax.jit(CrabNet(model.config).apply), {"params": jax.device_put(model.params)}

    def run() -> np.ndarray:
        many = compositions_of_formulas(formulas)
        order = np.argsort(many.n_elements, kind="stable")
        outputs = np.zeros((len(formulas), 2))
        for start in range(0, len(formulas), size):
            chosen = order[start : start + size]
            outputs[chosen] = np.asarray(program(variables, pad_compositions(many[chosen], size)))[: len(chosen)]
        return outputs

    return Job(run, {"output": run()[:8]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--threads", type=int, required=True, help="how many cores this process is pinned to")
    options = parser.parse_args()
    set_up_jax()
    model = read(options.weights, ReadOptions(predicts="e_form"))
    introduction = {
        "versions": versions("alexandria-mlip", "jax", "jaxlib", "numpy"),
        "threads": options.threads,
        "device": jax.devices()[0].device_kind,
    }
    tasks = (forward, train, screen, peak)
    serve({task.__name__: lambda path, t=task: t(model, path) for task in tasks}, introduction)


if __name__ == "__main__":
    main()
