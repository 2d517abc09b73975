"""MatterSim's network here against the package mattersim (PyTorch): the same weights, crystals and cores.

    pip install torch==2.13.0 (its CPU build) mattersim          (an environment of its own, Python 3.11)
    peers/mattersim/bin/python benchmarks/sides/mattersim_side.py 1M.pth --make 1M     (random weights)
    mlip convert 1M.pth 1M.safetensors
    python benchmarks/mattersim.py --data alexandria-random-1k.extxyz.gz mptrj-random-1k.extxyz.gz \\
        --weights 1M.safetensors 5M.safetensors --peer-weights 1M.pth 5M.pth \\
        --peer-python peers/mattersim/bin/python --report benchmarks/results/mattersim.md

What is timed, both sides strictly alternating in one run:
  cells     energy, forces and stress of one cell through the ASE calculator, a step of a vibration per call, the
            graph included. Ours with the default skin, and with skin 0, a new neighbor list at every step.
  predict   a batch of crystals from atoms to results, graphs included
  model     the same batch, its graphs ready
Before anything is timed, energies, forces and stresses of both sides are compared. With --keep-memory both sides run
again in processes whose C library keeps freed memory, as commands of mlip do, and scripts that call
`mlip.keep_freed_memory` first: XLA asks for the memory of all intermediate arrays at every call.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from cases import Case, batch_case, cell_case, representative
from comparison import compare, document, faults, show
from rich.console import Console
from rich.progress import track
from side_by_side import SIDES, Contestant, Side, machine, pin, race

from mlip.allocator import KEEPING

CELL_SIZES = (2, 8, 20, 40)
BATCH = 64
CUTOFF = 5.0
TOLERANCES = {"energy": 1e-4, "forces": 1e-3, "stress": 1e-4}
"""Between single-precision programs; eV/atom, eV/A, eV/A^3."""
PEER = "mattersim"
TITLE = "MatterSim's network, beside its authors' code"
INTRODUCTION = (
    "Written by `benchmarks/mattersim.py`: random weights in the dimensions of the published models, the same on both "
    "sides; energy, forces and stress."
)


def make_cases(files: list[list[Atoms]], folder: Path, parts: list[str]) -> list[Case]:
    """Write the structures of each case; cells are chosen from all files, batches drawn from the first."""
    cases = []
    if "cells" in parts:
        pool = [atoms for structures in files for atoms in structures]
        cases += [cell_case(representative(pool, n, CUTOFF), folder, CUTOFF) for n in CELL_SIZES]
    return cases + [batch_case(files[0], task, BATCH, folder, CUTOFF) for task in ("predict", "model") if task in parts]


def run(case: Case, sides: dict[str, Side], options: argparse.Namespace) -> dict[str, Any]:
    """Race one case; its record in the results."""
    takers = {name: Contestant(side, case.task, case.path) for name, side in sides.items()}
    if case.task == "calculator":
        takers["mlip, skin 0"] = Contestant(sides["mlip"], case.task, case.path, {"skin": 0.0})
    outcomes = race(takers, options.repeats, options.seconds)
    ours = [name for name in outcomes if name != PEER] if PEER in outcomes else []
    times = {name: outcome.as_dict() for name, outcome in outcomes.items()}
    comparisons = [compare(case, name, PEER, outcomes, same_weights=True) for name in ours]
    return case.describe() | {"times": times, "comparisons": comparisons}


def measure(
    weights: Path, peer_weights: Path | None, keeps_memory: bool, options: argparse.Namespace, console: Console
) -> dict[str, Any]:
    """All cases with one potential."""
    title = f"{weights.stem}, {options.threads} thread(s){', freed memory kept' * keeps_memory}"
    environment = KEEPING if keeps_memory else {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        commands = {"mlip": [sys.executable, SIDES / "mlip_side.py", weights]}
        if peer_weights is not None:
            commands[PEER] = [options.peer_python, SIDES / "mattersim_side.py", peer_weights]
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
        files = [
            [atoms for atoms in ase.io.read(path, ":") if elements.issuperset(atoms.get_chemical_symbols())]
            for path in options.data
        ]
        cases = make_cases(files, folder, options.parts)
        records = [run(case, sides, options) for case in track(cases, title, console=console)]
    show(records, title, TOLERANCES, console)
    return {"title": title, "sides": introductions, "cases": records, "faults": faults(records, TOLERANCES)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="crystals; batches: of the first file")
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help="our potentials")
    parser.add_argument("--peer-weights", type=Path, nargs="+", help="the checkpoints that they were converted from")
    parser.add_argument("--peer-python", help="Python of an environment with mattersim")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parts", nargs="+", default=["cells", "predict", "model"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="at least, a repeat")
    parser.add_argument("--keep-memory", action="store_true", help="all cases again with freed memory kept")
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
        measure(ours, theirs, keeps_memory, options, console)
        for ours, theirs in zip(options.weights, peers, strict=True)
        for keeps_memory in ((False, True) if options.keep_memory else (False,))
    ]
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    if options.report:
        options.report.write_text(document(report, TITLE, INTRODUCTION))
    return int(any(run["faults"] for run in report["runs"]))


if __name__ == "__main__":
    raise SystemExit(main())
