"""MACE against its peers, mace-torch and InstaDeep's `mlip`: the same dimensions, crystals and cores.

    python benchmarks/mace.py --data alexandria-random-1k.extxyz.gz mptrj-random-1k.extxyz.gz --threads 1 2 \\
        --peer-python mace-torch=peers/mace/bin/python --peer-python instadeep=peers/instadeep/bin/python \\
        --cases cells first --out benchmarks/results/mace_cells.json       (batches: --cases predict model training)

The peers' environments (Python 3.11; each line is a virtual environment of its own):

    mace-torch:  pip install torch==2.13.0 (its CPU build)
                 pip install mace-torch==0.3.16
                 (for --mace-torch cueq, on a GPU: pip install cuequivariance-torch cuequivariance-ops-torch-cu12)
    instadeep:   pip install mlip==0.2.5 jax==0.10.2      (imported under our name: never beside ours)

All have the dimensions of the medium MACE-MP-0 (128x0e+128x1o, 6 A, harmonics up to l = 3, products of three densities,
89 elements, two residual layers) and random weights: mace-torch's, which ours takes over; InstaDeep's parameters are
others. Where ours and mace-torch's energies, forces, stresses or gradients differ, nobody is timed.

What is timed, each side strictly alternating with the others in one run:
  cells     energy, forces and stress of one cell through the ASE calculator, a step of a vibration per call, the
            graph included. Ours with the default skin, and with skin 0, a new neighbor list at every step.
  predict   a batch of crystals from atoms to results, graphs included
  model     the same batch, its graphs ready
  training  a step on a batch: loss of energies, forces and stresses (1, 1, 0.1; MSE; GPa), its gradient, Adam
  first     seconds until a new process of ours, once it has read the potential, has its first result, with an empty
            and with a filled compilation cache: a cell of 20 through the calculator, and a training step

On a GPU, memory and structures/s against the size of the batch, which peers do not know on a CPU:

    python benchmarks/mace.py ... --cases model training --whole-batches --batch 16 64 256 --training-batch 8 32 128

(Sides share the GPU and keep what they once took: the largest batches are for one peer at a time.)
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from cases import Case, batch_case, cell_case, representative
from comparison import compare, differences, excesses, faults, show
from random_potential import random_potential
from rich.console import Console
from rich.progress import track
from side_by_side import SIDES, Contestant, Outcome, Side, machine, pin, race

from mlip.convert import convert
from mlip.models.mace import MACEConfig

OURS, MACE_TORCH, INSTADEEP = "mlip", "mace-torch", "instadeep"
SCRIPTS = {MACE_TORCH: "mace_torch_side.py", INSTADEEP: "instadeep_side.py"}
VARIANTS = {"compile": "mace-torch, compiled", "cueq": "mace-torch, cuequivariance"}
"""Its opt-ins; compiled in the calculator only, as mace-torch offers it."""
CELL_SIZES = (2, 8, 20, 40)
SCALE = 80.0
"""Brings energies of random weights to electronvolts an atom, where tolerances mean something."""
TOLERANCES = {
    "energy": 1e-5,  # eV/atom, between single-precision programs
    "forces": 1e-4,  # eV/A
    "stress": 1e-5,  # eV/A^3
    "energy_mae": 1e-4,  # relatively, as all below: of a training step
    "forces_mae": 1e-4,
    "gradient_norm": 1e-2,  # mace-torch counts the stress's off-diagonal components twice
}


def peer_config(config: MACEConfig) -> dict[str, Any]:
    """Our dimensions in mace-torch's words, as `mlip convert` reads them beside weights."""
    block = "RealAgnosticResidualInteractionBlock"
    return {
        "mace_torch": "0.3.16",
        "model": "ScaleShiftMACE",
        "first": block,
        "inter": block,
        "hidden": " + ".join(f"{config.channels}x{order}{'eo'[order % 2]}" for order in range(config.max_l + 1)),
        "MLP": f"{config.readout_hidden}x0e",
        "r_max": config.cutoff,
        "num_bessel": config.n_bessel,
        "p": config.cutoff_power,
        "max_ell": config.max_ell,
        "corr": config.correlation,
        "nint": config.n_layers,
        "radial_MLP": list(config.radial_hidden),
        "avgn": config.mean_neighbors,
        "zs": list(config.elements),
        "atomic_energies": [0.0] * len(config.elements),
        "scale": SCALE,
        "shift": 0.0,
    }


def make_cases(files: list[list[Atoms]], folder: Path, options: argparse.Namespace) -> list[Case]:
    """Write the structures of each case; cells are chosen from all files, batches drawn from the first."""
    cutoff, cases = MACEConfig().cutoff, []
    if "cells" in options.cases:
        pool = [atoms for structures in files for atoms in structures]
        cases += [cell_case(representative(pool, n, cutoff), folder, cutoff) for n in CELL_SIZES]
    tasks = [(task, size) for task in ("predict", "model") if task in options.cases for size in options.batch]
    tasks += [("training_step", size) for size in options.training_batch if "training" in options.cases]
    return cases + [batch_case(files[0], task, size, folder, cutoff) for task, size in tasks]


def contestants(case: Case, sides: dict[str, Side], whole_batches: bool) -> dict[str, Contestant]:
    """Everyone who takes part in a case, by name."""
    takers = {name: Contestant(side, case.task, case.path) for name, side in sides.items()}
    if case.task == "calculator":
        takers["mlip, skin 0"] = takers[OURS]._replace(options={"skin": 0.0})
    else:
        takers.pop(VARIANTS["compile"], None)
    if case.task == "model" and whole_batches:
        takers[OURS] = takers[OURS]._replace(options={"batch_edges": case.n_edges})
    return takers


def holds_our_weights(name: str) -> bool:
    return name in (MACE_TORCH, *VARIANTS.values())


def objection(case: Case, outcomes: dict[str, Outcome]) -> str | None:
    """In what mace-torch and we differ, though the weights are the same."""
    mine = outcomes[OURS]
    for name, theirs in outcomes.items():
        if holds_our_weights(name) and not (mine.error or theirs.error):
            found = excesses(differences(mine.check, theirs.check, case.n_atoms), TOLERANCES)
            if found:
                return f"nobody is timed: {OURS} and {name} {', '.join(found)}"
    return None


def run(case: Case, sides: dict[str, Side], options: argparse.Namespace) -> dict[str, Any]:
    """Race one case; its record in the results."""
    takers = contestants(case, sides, options.whole_batches)
    outcomes = race(takers, options.repeats, options.seconds, partial(objection, case))
    ours = [name for name, taker in takers.items() if taker.side is sides[OURS]]
    comparisons = [
        compare(case, name, peer, outcomes, same_weights=holds_our_weights(peer))
        for peer in takers
        if peer not in ours
        for name in ours
    ]
    times = {name: outcome.as_dict() for name, outcome in outcomes.items()}
    return case.describe() | {"times": times, "comparisons": comparisons}


def start_sides(stack: ExitStack, options: argparse.Namespace, threads: int, folder: Path) -> dict[str, Side]:
    """All sides by name, ours first, running and introduced; ours with the weights that mace-torch has written."""
    config = folder / "mace_config.json"
    config.write_text(json.dumps(peer_config(MACEConfig())))

    def start(name: str, python: str, script: str, *arguments: str | Path) -> Side:
        command = [python, SIDES / script, *arguments, "--threads", threads]
        return stack.enter_context(Side(name, command, threads, folder / f"{name}.log"))

    peers = {name: start(name, python, SCRIPTS[name], config) for name, python in options.peer_python.items()}
    for variant in options.mace_torch:
        python, script = options.peer_python[MACE_TORCH], SCRIPTS[MACE_TORCH]
        peers[VARIANTS[variant]] = start(VARIANTS[variant], python, script, config, "--variant", variant)
    potential = convert(folder / "mace_weights.npz") if MACE_TORCH in peers else random_potential(MACEConfig(), SCALE)
    return {OURS: start(OURS, sys.executable, "mlip_side.py", potential.save(folder / "mace.safetensors"))} | peers


def first_results(case: Case, threads: int, folder: Path) -> dict[str, float]:
    """Seconds until a process of ours has compiled `case` and run it, as {"cold": ..., "warm": ...}."""
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        for state in ("cold", "warm"):
            command = [sys.executable, SIDES / "mlip_side.py", folder / "mace.safetensors", "--threads", threads]
            with Side(f"first {state}", command, threads, folder / f"first-{state}.log", {"MLIP_CACHE": cache}) as side:
                start = time.perf_counter()
                side.ask(do="prepare", job="first", task=case.task, structures=str(case.path), options={})
                seconds[state] = round(time.perf_counter() - start, 1)
    return seconds


def measure_first_results(files: list[list[Atoms]], threads: int, folder: Path) -> list[dict[str, Any]]:
    """Of a calculator and of training."""
    cutoff = MACEConfig().cutoff
    atoms = representative([atoms for structures in files for atoms in structures], 20, cutoff)
    still = folder / "still.extxyz"
    ase.io.write(still, atoms)
    cell = Case(f"cell of {len(atoms)}", "calculator", still, [len(atoms)], 0)
    step = batch_case(files[0], "training_step", 8, folder, cutoff)
    return [{"case": case.name, "seconds": first_results(case, threads, folder)} for case in (cell, step)]


def measure(options: argparse.Namespace, threads: int, console: Console) -> dict[str, Any]:
    """All cases with `threads` threads."""
    pin(threads)
    description = f"{threads} thread{'s' * (threads > 1)}"
    known = set(MACEConfig().elements)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        sides = start_sides(stack, options, threads, folder)
        introductions = {side.name: side.introduction for side in sides.values()}
        for side, introduction in introductions.items():
            introduction.pop("elements")
            console.print(side, introduction, markup=False)
        files = [
            [atoms for atoms in ase.io.read(path, ":") if known.issuperset(atoms.numbers)] for path in options.data
        ]
        cases = make_cases(files, folder, options)
        records = [run(case, sides, options) for case in track(cases, description, console=console)]
        first = measure_first_results(files, threads, folder) if "first" in options.cases else []
    show(records, description, TOLERANCES, console)
    for entry in first:
        cold, warm = entry["seconds"]["cold"], entry["seconds"]["warm"]
        console.print(f"first result, {entry['case']}: {cold} s, {warm} s with a filled compilation cache")
    return {
        "threads": threads,
        "sides": introductions,
        "cases": records,
        "first_results": first,
        "faults": faults(records, TOLERANCES),
    }


def peer(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals or name not in SCRIPTS:
        raise argparse.ArgumentTypeError(f"give {' or '.join(f'{name}=PYTHON' for name in SCRIPTS)}")
    return name, path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="labeled crystals; batches: of the first")
    parser.add_argument("--peer-python", type=peer, action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--mace-torch", nargs="+", choices=list(VARIANTS), default=[], help="with its opt-ins too")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    every = ("cells", "predict", "model", "training", "first")
    parser.add_argument("--cases", nargs="+", choices=every, default=every)
    parser.add_argument("--batch", type=int, nargs="+", default=[16], help="crystals, to predict and to evaluate")
    parser.add_argument("--training-batch", type=int, nargs="+", default=[8], help="crystals")
    parser.add_argument("--whole-batches", action="store_true", help="ours splits no batch that is to be evaluated")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="at least, a repeat")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    options.peer_python = dict(options.peer_python)
    if options.mace_torch and MACE_TORCH not in options.peer_python:
        parser.error("--mace-torch needs --peer-python mace-torch=PYTHON")
    console = Console(width=180)
    report = {"machine": machine(), "repeats": options.repeats, "seconds": options.seconds}
    report["data"] = [path.name for path in options.data]
    report["runs"] = [measure(options, threads, console) for threads in options.threads]
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(run["faults"] for run in report["runs"]))


if __name__ == "__main__":
    raise SystemExit(main())
