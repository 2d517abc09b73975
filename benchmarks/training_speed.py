"""How fast a training step is, and what less precise matrix products make of its speed and of its accuracy.

    python benchmarks/training_speed.py CRYSTALS [--models m3gnet-64 ...] [--precisions highest tf32 bf16] [--batch 256]

M3GNet with 64 and 256 units and MACE with 128 channels, L = 1 and 2, random weights, one batch of real crystals: the
very step of `mlip train` with Adam, without the loader. Memory is what XLA sets aside for it; the share of the peak is
that of a matrix product of the same precision on the same device. Beside them stand the differences of energies,
forces and the loss's gradient from those in full precision, on the same weights. On a CPU all precisions are full.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flops import matmul_flops
from jraph import GraphsTuple
from pydantic import BaseModel
from random_potential import random_potential
from rich.console import Console
from rich.table import Table
from roofline import MATMUL_SIZES, crystal_graphs, padded_batch, seconds_of
from side_by_side import machine, pin

from mlip.energy_gradient import energies_forces_stress
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.potential import Potential
from mlip.runtime import ProductPrecision, products_in, set_up_jax
from mlip.training import parallel
from mlip.training.loop import new_state
from mlip.training.recipe import LossRecipe, Recipe
from mlip.training.schedule import Plan
from mlip.training.step import train_step_of
from mlip.training.task_of_recipe import task_of

MODELS: dict[str, BaseModel] = {
    "m3gnet-64": M3GNetConfig(units=64),
    "m3gnet-256": M3GNetConfig(units=256),
    "mace-L1": MACEConfig(max_l=1),
    "mace-L2": MACEConfig(max_l=2),
}
PRECISIONS: tuple[ProductPrecision, ...] = ("highest", "tf32", "bf16")


class Outcome(NamedTuple):
    """What is compared between precisions."""

    energies: np.ndarray
    """eV/atom, of random weights."""
    forces: np.ndarray
    gradient: np.ndarray
    """Of the loss with respect to all parameters, one after another."""


def peak_flops(precision: ProductPrecision) -> float:
    """Of a matrix product, a second: the best of several sizes."""
    best = 0.0
    for n in MATMUL_SIZES:
        a = jax.random.normal(jax.random.key(0), (n, n), jnp.float32)
        with products_in(precision):
            multiply = jax.jit(jnp.matmul)
            seconds = seconds_of(lambda multiply=multiply, a=a: multiply(a, a))
        best = max(best, 2 * n**3 / seconds)
        if seconds > 0.2:
            break
    return best


def recipe_of(config: BaseModel, precision: ProductPrecision, batch_size: int) -> Recipe:
    """A recipe whose steps hardly move the weights, so that all of them do the same."""
    if jax.default_backend() == "cpu":  # makes all products in full, and refuses some that are said to be of bfloat16
        precision = "highest"
    train = {"epochs": 1, "batch_size": batch_size, "learning_rate": 1e-9, "matmul_precision": precision}
    return Recipe(data={"store": "."}, model=config, loss=LossRecipe(kind="mse"), train=train, out=".")


def measure_step(potential: Potential, batch: GraphsTuple, recipe: Recipe, repeats: int) -> dict[str, float]:
    """Seconds of a step, memory, operations of matrix products."""
    task = task_of(recipe)
    step, state = train_step_of(task), parallel.replicate(new_state(task, potential.params))
    batch = jax.device_put(jax.tree.map(lambda array: array[None], batch))
    others = batch, parallel.replicate(np.float32(potential.metadata.scale)), Plan(task, 1).knobs(1)
    started = time.perf_counter()
    compiled = step.lower(state, *others).compile()
    compile_seconds = time.perf_counter() - started
    flops, memory = matmul_flops(step, state, *others), compiled.memory_analysis()
    seconds = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        state, report = compiled(state, *others)
        jax.block_until_ready((state, report))
        seconds.append(time.perf_counter() - started)
    taken = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return {
        "step_seconds": median(seconds[1:]),
        "compile_seconds": compile_seconds,
        "memory_bytes": taken - memory.alias_size_in_bytes,
        "matmul_flops": flops,
    }


def outcome(potential: Potential, batch: GraphsTuple, recipe: Recipe) -> Outcome:
    """Energies, forces and gradient with products of the recipe's precision."""
    task, scale = task_of(recipe), np.float32(potential.metadata.scale)

    @jax.jit
    def evaluate(params, batch):
        found = energies_forces_stress(task.network, params, batch, scale, 0.0, recipe.train.matmul_precision)
        gradient_of_loss = jax.grad(lambda p: sum(term.penalty.sum() for term in task.terms(p, batch, scale).values()))
        return found.energy / jnp.maximum(batch.n_node, 1), found.forces, gradient_of_loss(params)

    energies, forces, gradient = jax.device_get(evaluate(potential.cast("float32"), jax.device_put(batch)))
    return Outcome(energies, forces, np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)]))


def differences(found: Outcome, full: Outcome) -> dict[str, float]:
    """Root mean squares of differences in units of those of the values in full precision."""
    return {
        f"{name}_difference": float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs))
        for name, mine, theirs in zip(Outcome._fields, found, full, strict=True)
    }


def measure(
    config: BaseModel, path: Path, batch_size: int, peaks: dict[ProductPrecision, float], repeats: int
) -> dict[str, dict[str, Any]]:
    """All precisions of one model; one that does not fit into memory has an error in place of its numbers."""
    potential = random_potential(config)
    batch = padded_batch(crystal_graphs(potential, path), batch_size)
    results: dict[str, dict[str, Any]] = {}
    full = None
    for precision, peak in peaks.items():
        recipe = recipe_of(config, precision, batch_size)
        try:
            result = measure_step(potential, batch, recipe, repeats)
            found = outcome(potential, batch, recipe)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            results[precision] = {"error": "out of memory"}
            continue
        full = full or found
        result["structures_per_s"] = batch_size / result["step_seconds"]
        result["share_of_peak"] = result["matmul_flops"] / result["step_seconds"] / peak
        results[precision] = result | differences(found, full)
    return results


COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "structures/s": lambda r: f"{r['structures_per_s']:,.1f}",
    "ms a step": lambda r: f"{1000 * r['step_seconds']:,.1f}",
    "memory, GB": lambda r: f"{r['memory_bytes'] / 1e9:.2f}",
    "share of peak": lambda r: f"{r['share_of_peak']:.1%}",
    "dE": lambda r: f"{r['energies_difference']:.1e}",
    "dF": lambda r: f"{r['forces_difference']:.1e}",
    "d gradient": lambda r: f"{r['gradient_difference']:.1e}",
}


def show(report: dict[str, Any]) -> None:
    peaks = ", ".join(f"{name} {flops / 1e9:,.0f}" for name, flops in report["peak_flops"].items())
    table = Table("model", "products", *COLUMNS, title=f"{report['device']}, batch {report['batch']}; Gflop/s: {peaks}")
    for model, results in report["models"].items():
        for precision, result in results.items():
            cells = [result["error"]] if "error" in result else [cell(result) for cell in COLUMNS.values()]
            table.add_row(model, precision, *cells)
    Console(width=130).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="crystals: any file that ase.io reads")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS[1:], default=PRECISIONS[1:], help="besides the highest"
    )
    parser.add_argument("--batch", type=int, default=256, help="crystals")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of a CPU; default: all")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    if options.threads:
        pin(options.threads)
    set_up_jax()
    peaks = {precision: peak_flops(precision) for precision in PRECISIONS[:1] + tuple(options.precisions)}
    report = {
        "machine": machine(),
        "device": parallel.describe_devices(),
        "versions": {name: version(name) for name in ("alexandria-mlip", "jax", "jaxlib")},
        "batch": options.batch,
        "peak_flops": peaks,
        "models": {
            name: measure(MODELS[name], options.data, options.batch, peaks, options.repeats) for name in options.models
        },
    }
    show(report)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
