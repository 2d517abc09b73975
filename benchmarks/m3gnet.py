"""M3GNet against its peers, the original (TensorFlow) and matgl (PyTorch): the same weights, crystals and cores.

    mlip convert .../m3gnet/checkpoint m3gnet.safetensors
    mlip convert .../M3GNet-MP-2021.2.8-PES matgl.safetensors
    python benchmarks/m3gnet.py --data alexandria-random-1k.extxyz.gz mptrj-random-1k.extxyz.gz \\
        --weights m3gnet.safetensors --matgl-weights matgl.safetensors \\
        --peer-python m3gnet=peers/m3gnet/bin/python --peer-weights m3gnet=.../m3gnet/checkpoint \\
        --peer-python matgl=peers/matgl/bin/python --peer-weights matgl=.../M3GNet-MP-2021.2.8-PES \\
        --threads 1 2 --out benchmarks/results/m3gnet.json

The peers' environments (Python 3.11; each line is a virtual environment of its own):

    m3gnet:  pip install tensorflow-cpu==2.15.1 'numpy<2' pymatgen==2024.2.20 'ase>=3.22,<3.25' monty sympy cython
             pip install --no-deps m3gnet==0.2.4
    matgl:   pip install torch==2.13.0 (its CPU build)
             pip install matgl==4.1.2

What is timed, each side strictly alternating with the others in one run:
  cells     energy, forces and stress of one cell through the ASE calculator, a step of a vibration per call, the
            graph included. Ours with the default skin, and with skin 0, a new neighbor list at every step.
  predict   a batch of crystals from atoms to results, graphs included
  model     the same batch, its graphs ready
  training  a step on a batch: loss of energies, forces and stresses (1, 1, 0.1; MSE; GPa), its gradient, Adam
Before anything is timed, energies, forces and stresses of both sides are compared.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from cases import Case, batch_case, cell_case, representative
from comparison import compare, faults, show
from rich.console import Console
from rich.progress import track
from side_by_side import SIDES, Contestant, Side, machine, pin, race

from mlip.graph.neighbors import neighbor_list

COMPILED = "matgl, compiled"
"""Cannot be trained: torch.compile refuses to differentiate forces."""
CELL_SIZES = (2, 8, 20, 40)
BATCH_SIZES = (32, 256)
TRAINING_BATCH = 32
CUTOFF = 5.0
THREE_BODY_CUTOFF = 4.0
TOLERANCES = {
    "energy": 1e-4,  # eV/atom, between single-precision programs
    "forces": 1e-3,  # eV/A
    "stress": 1e-4,  # eV/A^3
    "energy_mae": 1e-3,  # relatively, as all below: of a training step
    "forces_mae": 1e-3,
    "gradient_norm": 1e-2,  # of sums over all parameters in single precision
}


def has_angles(atoms: Atoms) -> bool:
    """Whether some atom has two bonds within the three-body cutoff; without any, the original raises."""
    receivers = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, THREE_BODY_CUTOFF).receivers
    return len(receivers) > 0 and np.bincount(receivers).max() > 1


def usable(structures: list[Atoms], elements: set[str], console: Console) -> list[Atoms]:
    """Those that every side can evaluate; the others are counted aloud."""
    known = [atoms for atoms in structures if elements.issuperset(atoms.get_chemical_symbols())]
    kept = [atoms for atoms in known if has_angles(atoms)]
    console.print(
        f"{len(kept)} of {len(structures)} crystals can be evaluated by all sides; left out: "
        f"{len(structures) - len(known)} with an element that one of them lacks, "
        f"{len(known) - len(kept)} without an angle (the original raises)"
    )
    return kept


def make_cases(files: list[list[Atoms]], folder: Path, parts: list[str]) -> list[Case]:
    """Write the structures of each case; cells are chosen from all files, batches drawn from the first."""
    cases = []
    if "cells" in parts:
        pool = [atoms for structures in files for atoms in structures]
        cells = [representative(pool, n, CUTOFF) for n in CELL_SIZES]
        cells.append(cells[CELL_SIZES.index(20)] * (2, 2, 2))
        cases += [cell_case(atoms, folder, CUTOFF) for atoms in cells]
    tasks = [(task, size) for task in ("predict", "model") if task in parts for size in BATCH_SIZES]
    tasks += [("training_step", TRAINING_BATCH)] * ("training" in parts)
    cases += [batch_case(files[0], task, size, folder, CUTOFF) for task, size in tasks]
    return cases


def contestants(case: Case, ours: dict[str, Side], peers: dict[str, Side]) -> dict[str, Contestant]:
    """Everyone who takes part in a case, by name."""
    takers = {}
    for weights, side in ours.items():
        takers[f"mlip {weights}"] = Contestant(side, case.task, case.path)
        if case.task == "calculator":
            takers[f"mlip {weights}, skin 0"] = Contestant(side, case.task, case.path, {"skin": 0.0})
    for name, side in peers.items():
        if not (name == COMPILED and case.task == "training_step"):
            takers[name] = Contestant(side, case.task, case.path)
    return takers


def run(case: Case, ours: dict[str, Side], peers: dict[str, Side], options: argparse.Namespace) -> dict[str, Any]:
    """Race one case; its record in the results."""
    outcomes = race(contestants(case, ours, peers), options.repeats, options.seconds)
    comparisons = []
    for peer in sorted(peers.keys() & outcomes.keys()):
        held = "matgl" if peer == COMPILED else peer
        weights = held if held in ours else "m3gnet"
        for name in outcomes:
            if name == f"mlip {weights}" or name.startswith(f"mlip {weights},"):
                comparisons.append(compare(case, name, peer, outcomes, same_weights=weights == held))
    times = {name: outcome.as_dict() for name, outcome in outcomes.items()}
    return case.describe() | {"times": times, "comparisons": comparisons}


def start_sides(stack: ExitStack, options: argparse.Namespace, threads: int, logs: Path) -> tuple[dict[str, Side], ...]:
    """(our sides by the weights they hold, the peers by name), running and introduced."""

    def start(name: str, python: str, script: str, *arguments: str) -> Side:
        command = [python, SIDES / script, *arguments, "--threads", threads]
        return stack.enter_context(Side(name, command, threads, logs / f"{name}.log".replace(" ", "-")))

    ours = {"m3gnet": start("mlip m3gnet", sys.executable, "mlip_side.py", options.weights)}
    if options.matgl_weights:
        # matgl >= 3 sums messages at the center whatever direction its weights were trained for.
        center = json.dumps({"aggregate": "center"})
        ours["matgl"] = start("mlip matgl", sys.executable, "mlip_side.py", options.matgl_weights, "--config", center)
    peers = {
        name: start(name, python, f"{name}_side.py", options.peer_weights[name])
        for name, python in options.peer_python.items()
    }
    if options.matgl_compile:
        python, folder = options.peer_python["matgl"], options.peer_weights["matgl"]
        peers[COMPILED] = start("matgl compiled", python, "matgl_side.py", folder, "--compile")
    return ours, peers


def measure(options: argparse.Namespace, threads: int, console: Console) -> dict[str, Any]:
    """All cases with `threads` threads."""
    pin(threads)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        ours, peers = start_sides(stack, options, threads, folder)
        sides = {side.name: side.introduction for side in (*ours.values(), *peers.values())}
        elements = set.intersection(*(set(introduction.pop("elements")) for introduction in sides.values()))
        files = [usable(ase.io.read(path, ":"), elements, console) for path in options.data]
        cases = make_cases(files, folder, options.parts)
        description = f"{threads} thread{'s' * (threads > 1)}"
        records = [run(case, ours, peers, options) for case in track(cases, description, console=console)]
    show(records, description, TOLERANCES, console)
    return {"threads": threads, "sides": sides, "cases": records, "faults": faults(records, TOLERANCES)}


def pairs(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals or name not in ("matgl", "m3gnet"):
        raise argparse.ArgumentTypeError("give matgl=PATH or m3gnet=PATH")
    return name, path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="labeled crystals; batches: of the first file"
    )
    parser.add_argument("--weights", required=True, help="our potential with the original's weights")
    parser.add_argument("--matgl-weights", help="our potential with matgl's; without it, --weights meets matgl too")
    parser.add_argument("--peer-python", type=pairs, action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--peer-weights", type=pairs, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--matgl-compile", action="store_true", help="matgl under torch.compile too, its opt-in")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--parts", nargs="+", default=["cells", "predict", "model", "training"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="at least, a repeat")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    options.peer_python, options.peer_weights = dict(options.peer_python), dict(options.peer_weights)
    if missing := options.peer_python.keys() - options.peer_weights.keys():
        parser.error(f"--peer-weights {missing.pop()}=FOLDER is missing")
    if options.matgl_compile and "matgl" not in options.peer_python:
        parser.error("--matgl-compile needs --peer-python matgl=PYTHON")
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
