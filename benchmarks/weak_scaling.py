"""What the parallel layer costs by itself: M3GNet's training steps on virtual devices of one machine.

Virtual devices share the machine's cores, so n of them do the work of n in n times the time of one, at best. Each has
the same batch; the reference is one device with all these batches in one: the same work without the layer. "layer"
is a step that sums a gradient of the model's size over all devices, hands the state on, and computes nothing.

    python benchmarks/weak_scaling.py --out benchmarks/results/weak_scaling.json

Every figure is the median over fresh processes, the cases taken in turn; nothing else should run on the machine.
"""

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import jax
import numpy as np
from ase.build import bulk
from jraph import GraphsTuple

from mlip.data import Frame
from mlip.graph.batching import Shape, graph_sizes, pad_batch
from mlip.graph.labeled_graphs import EnergyLabels, labeled_graphs
from mlip.models import config_class
from mlip.runtime import set_up_jax
from mlip.training import parallel, processes
from mlip.training.loop import new_state
from mlip.training.recipe import Recipe
from mlip.training.schedule import Plan
from mlip.training.step import TrainState, train_step_of
from mlip.training.task_of_recipe import task_of

STRUCTURES = 8
"""Of a device's batch."""
DEVICES = (1, 2, 4, 8)
RECIPE = Recipe(
    data={"store": "."},
    model=config_class("m3gnet")(),
    train={"epochs": 1, "batch_size": STRUCTURES, "learning_rate": 1e-3},
    out=".",
)
TASK = task_of(RECIPE)


def make_batch(copies: int) -> GraphsTuple:
    """For each device of this process the same rattled silicon, `copies` times."""
    graphs = []
    for seed in range(STRUCTURES):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.05, seed=seed)
        frame = Frame(atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc, -40.0, 0 * atoms.positions, np.zeros(6))
        graphs += labeled_graphs([frame], RECIPE.model.inputs, EnergyLabels(np.zeros(119)))
    n_node, n_edge = (copies * graph_sizes(graphs).sum(0)).tolist()
    padded = pad_batch(copies * graphs, Shape(n_node + 1, n_edge, copies * STRUCTURES + 1))
    return jax.tree.map(lambda array: np.stack([array] * parallel.n_devices()), padded)


def make_step(work: str, batch: GraphsTuple) -> Callable[[TrainState], tuple]:
    """state -> (state, something that is there when the step is done)."""
    if work == "layer":
        share = parallel.parallelize(lambda state, _: (state, parallel.sum_over_devices(state.params)), donate=(0,))
        return lambda state: share(state, batch.n_node)
    step = train_step_of(TASK)
    scale, knobs = parallel.replicate(np.float32(1.0)), Plan(TASK, 1).knobs(1)
    return lambda state: step(state, parallel.cut(batch, 1), scale, knobs)


def seconds_a_step(work: str, copies: int) -> float:
    """The median over some steps, each waited for."""
    set_up_jax()
    step, state, seconds = make_step(work, make_batch(copies)), parallel.replicate(new_state(TASK)), []
    n_steps = 100 if work == "layer" else 5
    for _ in range(2 + n_steps):
        start = time.perf_counter()
        state, report = step(state)
        jax.block_until_ready(report)
        seconds.append(time.perf_counter() - start)
    return median(seconds[2:])


def measure(work: str, *, devices: int = 1, copies: int = 1, n_processes: int = 1) -> float:
    """`seconds_a_step` of the first of fresh processes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        coordinator = f"127.0.0.1:{server.getsockname()[1]}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    case = [sys.executable, __file__, "--work", work, "--copies", str(copies), "--processes", str(n_processes)]
    members = [
        subprocess.Popen(
            [*case, "--coordinator", coordinator, "--process", str(process)], env=environment, stdout=subprocess.PIPE
        )
        for process in range(n_processes)
    ]
    said = [member.communicate()[0] for member in members]
    if any(member.returncode for member in members):
        raise SystemExit(f"{' '.join(case)} failed")
    return float(said[0].split()[-1])


def compare(rounds: int) -> dict[str, dict]:
    """Every case, in turn."""
    cases = {
        **{f"layer, {n} devices": ("layer", {"devices": n}) for n in DEVICES},
        "layer, 2 processes": ("layer", {"n_processes": 2}),
        **{f"training, {n} devices": ("training", {"devices": n}) for n in DEVICES},
        "training, 2 processes": ("training", {"n_processes": 2}),
        **{f"training, {n} batches in one": ("training", {"copies": n}) for n in DEVICES[1:]},
    }
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (work, options) in cases.items():
            found[name].append(measure(work, **options))
            print(f"{name}: {1000 * found[name][-1]:.2f} ms", flush=True)
    return {name: {"ms": round(1000 * median(times), 3)} for name, times in found.items()}


def add_overheads(results: dict[str, dict]) -> None:
    """How much longer the steps of n devices are than that of one with n batches, and than n of its own."""
    alone = results["training, 1 devices"]["ms"]
    shared = {f"{n} devices": n for n in DEVICES[1:]} | {"2 processes": 2}
    for name, n in shared.items():
        result = results[f"training, {name}"]
        result["against_one_batch"] = round(result["ms"] / results[f"training, {n} batches in one"]["ms"], 3)
        result["against_one_device"] = round(result["ms"] / (n * alone), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    inner = parser.add_argument_group("of the processes that this script starts")
    inner.add_argument("--work", choices=("layer", "training"))
    inner.add_argument("--copies", type=int)
    inner.add_argument("--coordinator")
    inner.add_argument("--processes", type=int)
    inner.add_argument("--process", type=int)
    options = parser.parse_args()
    if options.work:
        with processes.joined(options.coordinator, options.processes, options.process):
            print(seconds_a_step(options.work, options.copies))
        return
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in ("alexandria-mlip", "jax", "jaxlib")},
        "model": "M3GNet, 64 units",
        "structures_a_device": STRUCTURES,
        "atoms_a_structure": 8,
        "rounds": options.rounds,
        "results": compare(options.rounds),
    }
    add_overheads(report["results"])
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
