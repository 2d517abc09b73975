"""What an accelerator would be asked to do, read from the programs as lowered for it: no accelerator is needed.

    python benchmarks/lowered.py [--platform cuda] [--out benchmarks/results/lowered.md]

For each main program, of the published sizes: its operations; scatters and gathers, and how many of them do not say
that their indices are sorted (then a GPU adds atomically, in any order, and what it reads may lie far apart in memory);
numbers in float64, of which a program in float32 should have none; calls of libraries; buffers that a result
may take over; bytes that each device sends to the others in a step (sums over devices).
"""

import argparse
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ase.build import bulk

import mlip
from mlip.data import Frame
from mlip.energy_gradient import evaluate_batch
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.labeled_graphs import EnergyLabels, labeled_graphs
from mlip.models.alignn import ALIGNNConfig
from mlip.models.cgat import CGATConfig
from mlip.models.crabnet import CrabNetConfig
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.models.nequip import NequIPConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.property_model import property_outputs
from mlip.relaxation.batch import advance
from mlip.relaxation.step_programs import Programs
from mlip.training import parallel
from mlip.training.loop import new_state
from mlip.training.recipe import Recipe
from mlip.training.schedule import Plan
from mlip.training.step import train_step_of
from mlip.training.task_of_recipe import task_of

POTENTIALS = {"M3GNet": M3GNetConfig(), "MACE": MACEConfig(), "Nequix": NequIPConfig()}
PROPERTIES = {"CGAT": CGATConfig(), "CrabNet": CrabNetConfig(), "ALIGNN": ALIGNNConfig()}
_SIZES = {"f64": 8, "f32": 4, "bf16": 2, "i32": 4, "ui32": 4, "i64": 8, "i1": 1}
_ALL_REDUCE = re.compile(r'"stablehlo\.all_reduce".*?\}\) : \([^\n]*\) -> ([^\n]*)', re.S)
_TENSOR = re.compile(r"tensor<((?:\d+x)*)(\w+)>")


class Counts(NamedTuple):
    """What one program holds, by the text of its StableHLO."""

    operations: int
    scatters: int
    scatters_unsorted: int
    gathers: int
    gathers_unsorted: int
    float64: int
    """Operations that give float64 numbers."""
    library_calls: str
    donated: int
    """Arguments whose memory a result may take."""
    bytes_summed: int
    """Of arrays that are summed over devices."""


def count(text: str) -> Counts:
    lines = [line.strip() for line in text.splitlines() if "stablehlo." in line]
    scatters, gathers = ([line for line in lines if f'"stablehlo.{kind}"' in line] for kind in ("scatter", "gather"))
    calls = sorted(set(re.findall(r"stablehlo\.custom_call @(\w+)", text)) - {"Sharding", "SPMDFullToShardShape"})
    return Counts(
        operations=len(lines),
        scatters=len(scatters),
        scatters_unsorted=sum("indices_are_sorted = true" not in line for line in scatters),
        gathers=len(gathers),
        gathers_unsorted=sum("indices_are_sorted = true" not in line for line in gathers),
        float64=sum("xf64>" in line.rpartition("->")[2] or line.endswith("tensor<f64>") for line in lines),
        library_calls=", ".join(calls),
        donated=text.count("jax.buffer_donor") + text.count("tf.aliasing_output"),
        bytes_summed=sum(map(_bytes_of, _ALL_REDUCE.findall(text))),
    )


def _bytes_of(types: str) -> int:
    return sum(
        _SIZES[kind] * int(np.prod([int(n) for n in sizes.split("x") if n])) for sizes, kind in _TENSOR.findall(types)
    )


def programs() -> dict[str, tuple[Any, tuple]]:
    """Jitted functions and their arguments, by name."""
    found: dict[str, tuple[Any, tuple]] = {}
    for name, config in POTENTIALS.items():
        potential = _potential(config)
        batch = _batch(potential)
        found[f"{name}, energies, forces, stresses"] = (
            evaluate_batch,
            (potential.model, potential.params, batch, np.float32(1), np.float32(0)),
        )
        task = task_of(
            Recipe(
                data={"store": "."}, model=config, train={"epochs": 1, "batch_size": 1, "learning_rate": 1e-3}, out="."
            )
        )
        state, scale = parallel.replicate(new_state(task, potential.params)), parallel.replicate(np.float32(1.0))
        stacked = jax.tree.map(lambda array: np.stack([array] * parallel.n_devices()), batch)
        found[f"{name}, training step"] = (train_step_of(task), (state, stacked, scale, Plan(task, 1).knobs(1)))
        found[f"{name}, relaxation"] = (advance, (potential.model, *_relaxation_arguments(potential)))
    for name, config in PROPERTIES.items():
        model, shapes = mlip.models.build_model(config), jax.eval_shape(lambda config=config: init_parameters(config))
        params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        found[f"{name}, properties"] = property_outputs, (model, params, config.inputs.example())
    return found


def _potential(config: Any) -> Potential:
    shapes = jax.eval_shape(lambda: init_parameters(config))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, leaf.dtype), shapes)
    return Potential(config, params, PotentialMetadata(reference_energies={"Si": 0.0}))


def _batch(potential: Potential) -> Any:
    atoms = bulk("Si")
    frame = Frame(atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc, -9.0, np.zeros((2, 3)), np.zeros(6))
    (graph,) = labeled_graphs([frame], potential.config.inputs, EnergyLabels(np.zeros(119)))
    return pad_batch([graph], Shape(3, len(graph.senders) + 5, 2))


class _CaughtError(Exception):
    """Arguments are known; nothing need be compiled."""


def _relaxation_arguments(potential: Potential) -> tuple:
    found: list[tuple] = []

    def remember(self: Programs, shape: Shape, device: Any, arguments: tuple) -> None:
        found.append(arguments)
        raise _CaughtError

    original, Programs._program = Programs._program, remember
    try:
        mlip.relax([bulk("Si")], potential, progress=False)
    except _CaughtError:
        pass
    finally:
        Programs._program = original
    return found[0]


def as_table(rows: dict[str, Counts]) -> str:
    names = [name.replace("_", " ") for name in Counts._fields]
    lines = [f"| program | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    lines += [f"| {name} | {' | '.join(str(value) for value in counts)} |" for name, counts in rows.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", choices=["cuda", "tpu", "cpu"], default="cuda")
    parser.add_argument("--only", help="programs whose name has this text")
    parser.add_argument("--texts", type=Path, help="folder for the programs themselves")
    parser.add_argument("--out", type=Path, help="Markdown")
    options = parser.parse_args()
    rows = {}
    for name, (function, arguments) in programs().items():
        if options.only and options.only not in name:
            continue
        text = function.trace(*arguments).lower(lowering_platforms=(options.platform,)).as_text()
        rows[name] = count(text)
        if options.texts:
            options.texts.mkdir(parents=True, exist_ok=True)
            (options.texts / f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}.mlir").write_text(text)
    table = as_table(rows)
    print(table)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        usage = __doc__.partition("For each")[2]
        options.out.write_text(f"# Programs as lowered for {options.platform}\n\nFor each{usage}\n{table}\n")


if __name__ == "__main__":
    main()
