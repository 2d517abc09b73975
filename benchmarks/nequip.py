"""NequIP's network here against the packages nequix (JAX) and sevenn (PyTorch): the same weights, crystals and cores.

    pip install sevenn==0.13.0 equinox matscipy alexandria-mlip; pip install --no-deps nequix==0.4.5      (Python 3.11)
    mlip convert nequix-oam-1.nqx nequix-oam-1.safetensors
    mlip convert checkpoint_sevennet_0.pth sevennet-0.safetensors
    python benchmarks/nequip.py --data alexandria-random-1k.extxyz.gz mptrj-random-1k.extxyz.gz \\
        --weights nequix-oam-1.safetensors sevennet-0.safetensors \\
        --peer-weights nequix-oam-1.nqx checkpoint_sevennet_0.pth \\
        --peer-python peers/nequip/bin/python --keep-memory \\
        --parts cells model --report benchmarks/results/nequip.md

What is timed, both sides strictly alternating in one run:
  cells     energy, forces and stress of one cell through the ASE calculator, a step of a vibration per call, the
            graph included. Ours with the default skin, and with skin 0, a new neighbor list at every step.
  predict   a batch of crystals from atoms to results, graphs included
  model     the same batch, its graphs ready; and how many operations a second ours makes, beside a matrix product's
  training  a step on a batch: loss of energies, forces and stresses (1, 1, 0.1; MSE; GPa), its gradient, Adam
  first     seconds until a new process of ours, once it has read the potential, has its first result, with an empty
            and with a filled compilation cache
Before anything is timed, energies, forces and stresses of both sides are compared. With --keep-memory both sides run
in processes whose C library keeps freed memory, as commands of mlip do.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from cases import Case, batch_case, cell_case, representative
from comparison import compare, document, faults, show
from rich.console import Console
from rich.progress import track
from side_by_side import SIDES, Contestant, Side, machine, pin, race

from mlip.allocator import KEEPING

CELL_SIZES = (2, 8, 20, 40)
BATCH = 32
TRAINING_BATCH = 16
TOLERANCES = {
    "energy": 1e-4,  # eV/atom, between single-precision programs
    "forces": 1e-3,  # eV/A
    "stress": 1e-4,  # eV/A^3
    "energy_mae": 1e-3,  # relatively, as all below: of a training step
    "forces_mae": 1e-3,
    "gradient_norm": 1e-2,
}
TITLE = "NequIP's network, beside nequix (JAX) and sevenn (PyTorch)"
INTRODUCTION = "Written by `benchmarks/nequip.py`: the same weights on both sides."
SCRIPTS = {".nqx": ("nequix", "nequix_side.py"), ".pth": ("sevenn", "sevenn_side.py")}


def make_cases(files: list[list[Atoms]], folder: Path, cutoff: float, parts: list[str]) -> list[Case]:
    """Write the structures of each case; cells are chosen from all files, batches drawn from the first."""
    cases = []
    if "cells" in parts:
        pool = [atoms for structures in files for atoms in structures]
        cases += [cell_case(representative(pool, n, cutoff), folder, cutoff) for n in CELL_SIZES]
    tasks = [(task, BATCH) for task in ("predict", "model") if task in parts]
    tasks += [("training_step", TRAINING_BATCH)] if "training" in parts else []
    return cases + [batch_case(files[0], task, size, folder, cutoff) for task, size in tasks]


def run(case: Case, sides: dict[str, Side], options: argparse.Namespace) -> dict[str, Any]:
    """Race one case; its record in the results."""
    takers = {name: Contestant(side, case.task, case.path) for name, side in sides.items()}
    if case.task == "calculator":
        takers["mlip, skin 0"] = Contestant(sides["mlip"], case.task, case.path, {"skin": 0.0})
    outcomes = race(takers, options.repeats, options.seconds)
    peers = [name for name in outcomes if not name.startswith("mlip")]
    times = {name: outcome.as_dict() for name, outcome in outcomes.items()}
    comparisons = [
        compare(case, name, peer, outcomes, same_weights=True)
        for peer in peers
        for name in outcomes
        if name.startswith("mlip")
    ]
    return case.describe() | {"times": times, "comparisons": comparisons}


def first_results(weights: Path, case: Case, threads: int, folder: Path) -> dict[str, float]:
    """Seconds until a new process of ours has its first result, with an empty and with a filled compilation cache."""
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        for state in ("cold", "warm"):
            command = [sys.executable, SIDES / "mlip_side.py", weights, "--threads", threads]
            with Side(f"first {state}", command, threads, folder / f"first-{state}.log", {"MLIP_CACHE": cache}) as side:
                start = time.perf_counter()
                side.ask(do="prepare", job="first", task=case.task, structures=str(case.path), options={})
                seconds[state] = round(time.perf_counter() - start, 1)
    return seconds


def matmul_peak(repeats: int = 20) -> float:
    """Operations a second of a product of two float32 matrices of 1,024 rows on these cores."""
    import jax

    a = jax.numpy.asarray(np.random.default_rng(0).normal(size=(1024, 1024)), np.float32)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * 1024**3 / min(times)


def operations(weights: Path, structures: Path) -> float:
    """Floating-point operations of the programs that `predict` runs for these structures, as XLA counts them."""
    from unittest.mock import patch

    from mlip.energy_gradient import evaluate_batch
    from mlip.potential import Potential
    from mlip.programs import Jitted

    calls, evaluate = [], Jitted.__call__

    def record(self, *arguments):
        calls.append(arguments)
        return evaluate(self, *arguments)

    with patch.object(Jitted, "__call__", record):
        Potential.load(weights).predict(ase.io.read(structures, ":"))
    return sum(evaluate_batch.lower(*call).compile().cost_analysis()["flops"] for call in calls)


def measure(weights: Path, peer_weights: Path | None, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All cases with one potential."""
    title = f"{weights.stem}, {options.threads} thread(s){', freed memory kept' * options.keep_memory}"
    environment = KEEPING if options.keep_memory else {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        commands = {"mlip": [sys.executable, SIDES / "mlip_side.py", weights]}
        if peer_weights is not None:
            peer, script = SCRIPTS[peer_weights.suffix]
            commands[peer] = [options.peer_python, SIDES / script, peer_weights]
        sides = {
            name: stack.enter_context(
                Side(
                    name, [*command, "--threads", options.threads], options.threads, folder / f"{name}.log", environment
                )
            )
            for name, command in commands.items()
        }
        introductions = {name: side.introduction for name, side in sides.items()}
        elements = set.intersection(*(set(introduction.pop("elements")) for introduction in introductions.values()))
        cutoffs = [introduction["cutoff"] for introduction in introductions.values() if "cutoff" in introduction]
        files = [
            [atoms for atoms in ase.io.read(path, ":") if elements.issuperset(atoms.get_chemical_symbols())]
            for path in options.data
        ]
        cases = make_cases(files, folder, max(cutoffs, default=6.0), options.parts)
        records = []
        for case in track(cases, weights.stem, console=console):
            records.append(run(case, sides, options))
            medians = {name: times.get("median_ms") for name, times in records[-1]["times"].items()}
            console.print(f"{case.name}: {medians} ms", markup=False)  # a run that is stopped has told what it knows
        report = {"title": title, "sides": introductions, "cases": records}
        report["faults"] = faults(records, TOLERANCES)
        ready = next((k for k, case in enumerate(cases) if case.task == "model"), None)
        if ready is not None and "median_ms" in records[ready]["times"]["mlip"]:
            report["operations"], report["matmul_peak"] = operations(weights, cases[ready].path), matmul_peak()
            seconds = records[ready]["times"]["mlip"]["median_ms"] / 1000
            report["share_of_peak"] = report["operations"] / seconds / report["matmul_peak"]
            console.print(f"{weights.stem}: {report['share_of_peak']:.1%} of the matrix product's speed")
        if "first" in options.parts:
            report["first"] = {
                case.name: first_results(weights, case, options.threads, folder)
                for case in cases
                if case.task == "training_step" or (case.name.startswith("cell of 20,"))
            }
            console.print(f"{weights.stem}: first results {report['first']}", markup=False)
    show(records, title, TOLERANCES, console)
    return report


def _further(runs: list[dict[str, Any]]) -> str:
    """Share of the matrix product's speed, and times of the first result, as a list in Markdown."""
    lines = []
    for run in runs:
        if "share_of_peak" in run:
            lines.append(
                f"- {run['title']}: the batch's programs make {run['share_of_peak']:.1%} of the operations a second "
                f"of a matrix product ({run['matmul_peak'] / 1e9:.0f} Gflop/s), by XLA's count."
            )
        for case, seconds in run.get("first", {}).items():
            lines.append(
                f"- {run['title']}, first result of a new process, {case}: {seconds['cold']} s with an empty, "
                f"{seconds['warm']} s with a filled compilation cache."
            )
    return "".join(["\n", *(f"{line}\n" for line in lines)]) if lines else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="crystals; batches: of the first file")
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help="our potentials")
    parser.add_argument("--peer-weights", type=Path, nargs="+", help="the checkpoints that they were converted from")
    parser.add_argument("--peer-python", help="Python of an environment with nequix and sevenn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parts", nargs="+", default=["cells", "predict", "model", "training", "first"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="at least, a repeat")
    parser.add_argument("--keep-memory", action="store_true", help="both sides with freed memory kept")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    parser.add_argument("--report", type=Path, help="write the tables here as Markdown")
    options = parser.parse_args()
    peers = options.peer_weights or [None] * len(options.weights)
    if len(peers) != len(options.weights) or (options.peer_python is None) != (options.peer_weights is None):
        parser.error("give --peer-python and a checkpoint in --peer-weights for each of --weights, or neither")
    console = Console(width=180)
    report = {"machine": machine(), "repeats": options.repeats, "seconds": options.seconds, "threads": options.threads}
    report["data"] = [path.name for path in options.data]
    pin(options.threads)
    report["runs"] = [
        measure(ours, theirs, options, console) for ours, theirs in zip(options.weights, peers, strict=True)
    ]
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    if options.report:
        options.report.write_text(document(report, TITLE, INTRODUCTION) + _further(report["runs"]))
    return int(any(run["faults"] for run in report["runs"]))


if __name__ == "__main__":
    raise SystemExit(main())
