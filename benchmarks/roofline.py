"""How close a potential comes to what the machine can do, and what holds it back.

    python benchmarks/roofline.py POTENTIAL DATA [--batch 32 256] [--threads 2] [--keep-memory]
        [--out benchmarks/results/roofline.json]

Limits are measured by JAX on the same device: a float32 matrix product (full precision: no TF32), a copy of an
array that no cache holds, and the logistic function. Against them stand energies, forces and stresses of a batch of
crystals, and a training step. Matrix products are counted in the jaxpr (`flops.py`), padding included; all
operations, bytes and transcendental functions are XLA's own `cost_analysis`, which takes every operand of every
fusion to come from memory, and so may exceed what the memory gives where caches serve.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
from flops import matmul_flops
from jraph import GraphsTuple
from op_times import time_shares
from rich.console import Console
from rich.table import Table
from side_by_side import machine, pin

import mlip
from mlip.energy_gradient import energies_forces_stress
from mlip.graph.batching import ShapeLadder, graph_sizes, pad_batch, padded_fraction
from mlip.graph.radius_graph import crystal_graph
from mlip.potential import Potential
from mlip.runtime import set_up_jax
from mlip.training import parallel
from mlip.training.potentials.potential_loss import label_counts, loss_terms
from mlip.training.recipe import LossRecipe
from mlip.training.terms import structure_losses

MATMUL_SIZES = (512, 1024, 2048, 4096, 8192, 16384)
COPY_MEGABYTES = (256, 1024)
LOGISTIC_MEGABYTES = (1, 16)


class Limits(NamedTuple):
    """What the device was seen to do at best, a second."""

    flops: float
    """Of a float32 matrix product."""
    bytes: float
    """Read and written, by the negative of an array put in its place."""
    transcendentals: float
    """Of the logistic function on an array in cache."""


def seconds_of(run: Callable[[], Any], repeats: int = 7) -> float:
    """Median, after a warm-up."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return median(times)


def measure_limits() -> Limits:
    """Best of several sizes each."""

    def products() -> Iterator[float]:
        for n in MATMUL_SIZES:
            a = jax.random.normal(jax.random.key(0), (n, n), jnp.float32)
            with jax.default_matmul_precision("highest"):
                multiply = jax.jit(jnp.matmul)
                seconds = seconds_of(lambda multiply=multiply, a=a: multiply(a, a))
            yield 2 * n**3 / seconds
            if seconds > 0.2:
                return

    def rate(function: Callable, megabytes: int, per_element: int) -> float:
        x = jnp.ones(megabytes * 250_000, jnp.float32)
        apply = jax.jit(function, donate_argnums=0)  # into its own memory: a new array would cost page faults

        def run():
            nonlocal x
            x = apply(x)
            return x

        return per_element * x.size / seconds_of(run)

    return Limits(
        flops=max(products()),
        bytes=max(rate(jnp.negative, size, per_element=8) for size in COPY_MEGABYTES),
        transcendentals=max(rate(jax.nn.sigmoid, size, per_element=1) for size in LOGISTIC_MEGABYTES),
    )


def programs(potential: Potential) -> dict[str, Callable]:
    """What is measured: (params, batch) -> arrays."""
    scale, recipe = potential.metadata.scale, LossRecipe(kind="mse")

    def energies_forces_stresses(params, batch):
        return energies_forces_stress(potential.model, params, batch, scale, potential.metadata.shift)

    def loss(params, batch):
        terms = loss_terms(energies_forces_stress(potential.model, params, batch, scale, 0.0), batch, recipe)
        weights = {"energy": recipe.energy, "forces": recipe.forces, "stress": recipe.stress}
        return structure_losses(terms, label_counts(batch), weights).sum()

    return {"energy, forces, stress": energies_forces_stresses, "loss and its gradient": jax.value_and_grad(loss)}


def measure(function: Callable, params: Any, batch: Any, limits: Limits) -> dict[str, Any]:
    """Time, counts and shares of one program."""
    compiled = jax.jit(function).lower(params, batch).compile()
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    seconds = seconds_of(lambda: compiled(params, batch))
    counts = {
        "matmul_flops": matmul_flops(function, params, batch),
        "flops": cost.get("flops", 0.0),
        "bytes": cost.get("bytes accessed", 0.0),
        "transcendentals": cost.get("transcendentals", 0.0),
    }
    least = {  # seconds that each resource would need if it were the only one
        "matrix products": counts["matmul_flops"] / limits.flops,
        "memory": counts["bytes"] / limits.bytes,
        "transcendentals": counts["transcendentals"] / limits.transcendentals,
    }
    return {
        "milliseconds": 1000 * seconds,
        **counts,
        "matmul_flops_per_s": counts["matmul_flops"] / seconds,
        "bytes_per_s": counts["bytes"] / seconds,
        "transcendentals_per_s": counts["transcendentals"] / seconds,
        "flops_per_byte": counts["matmul_flops"] / counts["bytes"] if counts["bytes"] else None,
        "bound": max(least, key=least.__getitem__),
        "share_of_limit": {name: time / seconds for name, time in least.items()},
        "memory_taken_bytes": memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes,
        "time_shares": time_shares(
            compiled, lambda: jax.block_until_ready([compiled(params, batch) for _ in range(3)])
        ),
    }


def crystal_graphs(potential: Potential, path: Path) -> list[GraphsTuple]:
    """Labeled graphs of all crystals of a file that the potential knows."""
    known = set(potential.elements)
    frames = [atoms for atoms in ase.io.iread(path, ":") if known.issuperset(atoms.get_chemical_symbols())]
    graphs = [crystal_graph(atoms, potential.cutoff) for atoms in frames]
    for graph in graphs:  # zeros are labels as good as any: the work is the same
        graph.nodes["forces"] = np.zeros_like(graph.nodes["positions"])
        graph.globals.update(energy=np.zeros(1, np.float32), stress=np.zeros((1, 6), np.float32))
    return graphs


def padded_batch(graphs: list[GraphsTuple], size: int) -> GraphsTuple:
    """The first `size` crystals, from the start again where there are fewer, in one batch with little padding."""
    members = [graphs[k % len(graphs)] for k in range(size)]
    n_node, n_edge = graph_sizes(members).sum(axis=0).tolist()
    return pad_batch(members, ShapeLadder(growth=1.02).smallest(n_node + 1, n_edge, size + 1))


def measure_batch(potential: Potential, graphs: list[GraphsTuple], size: int, limits: Limits) -> dict[str, Any]:
    """All programs on one batch; one that does not fit into memory has an error in place of its numbers."""
    batch = padded_batch(graphs, size)
    padding = padded_fraction(batch)
    params, on_device = potential.cast("float32"), jax.device_put(batch)
    results = {}
    for name, function in programs(potential).items():
        try:
            results[name] = measure(function, params, on_device, limits)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            results[name] = {"error": "out of memory"}
    return {
        "structures": size,
        "atoms": int(batch.n_node[:-1].sum()),
        "edges": int(batch.n_edge[:-1].sum()),
        "padded_atoms": padding.nodes,
        "padded_edges": padding.edges,
        "programs": results,
    }


def show(batch: dict[str, Any], limits: Limits, console: Console) -> None:
    """The table of one batch."""
    console.print(
        f"\n{batch['structures']:,} crystals, {batch['atoms']:,} atoms, {batch['edges']:,} edges; padding: "
        f"{batch['padded_atoms']:.1%} of the atoms, {batch['padded_edges']:.1%} of the edges"
    )
    measured = {name: program for name, program in batch["programs"].items() if "error" not in program}
    for name in batch["programs"].keys() - measured.keys():
        console.print(f"{name}: {batch['programs'][name]['error']}")
    rows = {
        "ms": lambda p: f"{p['milliseconds']:.1f}",
        "crystals/s": lambda p: f"{1000 * batch['structures'] / p['milliseconds']:,.0f}",
        "products, Gflop": lambda p: f"{p['matmul_flops'] / 1e9:.2f}",
        "  all operations by XLA's count": lambda p: f"{p['flops'] / 1e9:.2f}",
        "  Gflop/s (share of the measured peak)": lambda p: (
            f"{p['matmul_flops_per_s'] / 1e9:,.1f} ({p['share_of_limit']['matrix products']:.1%})"
        ),
        "memory, GB by XLA's count": lambda p: f"{p['bytes'] / 1e9:.2f}",
        "  GB/s (share of a copy)": lambda p: f"{p['bytes_per_s'] / 1e9:,.1f} ({p['share_of_limit']['memory']:.1%})",
        "transcendentals, millions": lambda p: f"{p['transcendentals'] / 1e6:.1f}",
        "  millions/s (share of the logistic's)": lambda p: (
            f"{p['transcendentals_per_s'] / 1e6:,.0f} ({p['share_of_limit']['transcendentals']:.1%})"
        ),
        "product flops a byte": lambda p: f"{p['flops_per_byte']:.2f}",
        "  where the machine's two limits meet": lambda p: f"{limits.flops / limits.bytes:.2f}",
        "the limit that binds first": lambda p: p["bound"],
        "memory taken, MB": lambda p: f"{p['memory_taken_bytes'] / 1e6:,.0f}",
    }
    table = Table("", *measured)
    for name, cell in rows.items():
        table.add_row(name, *map(cell, measured.values()))
    console.print(table)
    for name, program in measured.items():
        for by, shares in program["time_shares"].items():
            console.print(f"{name}, by {by}: " + ", ".join(f"{what} {s:.0%}" for what, s in shares.items() if s > 0.01))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", type=Path)
    parser.add_argument("data", type=Path, help="crystals: any file that ase.io reads")
    parser.add_argument("--batch", type=int, nargs="+", default=[256], help="crystals; several: one after another")
    parser.add_argument("--threads", type=int, help="of a CPU; default: all")
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory, as commands of mlip do")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    if options.threads:
        pin(options.threads)
    if options.keep_memory:
        mlip.keep_freed_memory()
    set_up_jax()
    potential = mlip.load(options.potential)
    graphs = crystal_graphs(potential, options.data)
    limits = measure_limits()
    report = {
        "machine": machine(),
        "device": parallel.describe_devices(),
        "keeps_freed_memory": options.keep_memory,
        "versions": {name: version(name) for name in ("alexandria-mlip", "jax", "jaxlib")},
        "potential": potential.config.model_dump(),
        "limits": limits._asdict(),
        "batches": [measure_batch(potential, graphs, size, limits) for size in options.batch],
    }
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        console = Console(width=150)
        console.print(
            f"{report['device']}: {limits.flops / 1e9:,.0f} Gflop/s in float32 products, {limits.bytes / 1e9:,.0f} "
            f"GB/s in copies, {limits.transcendentals / 1e9:,.2f} G logistic functions/s"
        )
        for batch in report["batches"]:
            show(batch, limits, console)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
