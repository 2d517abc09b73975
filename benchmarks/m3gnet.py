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
            graph included. Ours with the default skin, and with skin 0, a new neighbour list at every step.
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
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from rich.console import Console
from rich.progress import track
from rich.table import Table
from side_by_side import SIDES, Contestant, Outcome, Side, machine, pin, race

from mlip.graph.neighbors import neighbor_list

COMPILED = "matgl, compiled"
"""Cannot be trained: torch.compile refuses to differentiate forces."""
CELL_SIZES = (2, 8, 20, 40)
BATCH_SIZES = (32, 256)
TRAINING_BATCH = 32
CUTOFF = 5.0
THREE_BODY_CUTOFF = 4.0
QUIET = 0.1
"""Cores that other processes may keep busy while a side is timed."""
VIBRATION_STEPS = 100
TOLERANCES = {
    "energy": 1e-4,  # eV/atom, between single-precision programs
    "forces": 1e-3,  # eV/A
    "stress": 1e-4,  # eV/A^3
    "energy_mae": 1e-3,  # relatively, as all below: of a training step
    "forces_mae": 1e-3,
    "gradient_norm": 1e-2,  # peers count the stress's off-diagonal components twice
}


@dataclass(frozen=True)
class Case:
    """One line of the table: a file of structures and what is done with them."""

    name: str
    task: str
    path: Path
    n_atoms: list[int]
    """Of each structure whose results are compared."""
    n_edges: int

    def describe(self) -> dict[str, Any]:
        return {
            "case": self.name,
            "structures": len(self.n_atoms),
            "atoms": sum(self.n_atoms),
            "edges": self.n_edges,
        }


def n_edges(atoms: Atoms, cutoff: float = CUTOFF) -> int:
    return len(neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, cutoff).receivers)


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


def representative(structures: list[Atoms], n_atoms: int) -> Atoms:
    """Of the crystals whose size is nearest to `n_atoms` the one with the median number of edges."""
    distance = min(abs(len(atoms) - n_atoms) for atoms in structures)
    nearest = [atoms for atoms in structures if abs(len(atoms) - n_atoms) == distance]
    return sorted(nearest, key=n_edges)[len(nearest) // 2]


def vibration(atoms: Atoms) -> list[Atoms]:
    """Frames of a periodic motion like that of molecular dynamics: 0.05 A, 50 or 100 steps a period."""
    rng = np.random.default_rng(0)
    shape = (len(atoms), 3)
    amplitude, phase = rng.normal(scale=0.05, size=shape), rng.uniform(0, 2 * np.pi, shape)
    cycles = rng.integers(1, 3, shape)
    frames = []
    for step in range(VIBRATION_STEPS):
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.positions += amplitude * np.sin(2 * np.pi * cycles * step / VIBRATION_STEPS + phase)
        frames.append(frame)
    return frames


def make_cases(files: list[list[Atoms]], folder: Path, parts: list[str]) -> list[Case]:
    """Write the structures of each case; cells are chosen from all files, batches drawn from the first."""
    cases = []
    if "cells" in parts:
        pool = [atoms for structures in files for atoms in structures]
        cells = [representative(pool, n) for n in CELL_SIZES]
        cells.append(cells[CELL_SIZES.index(20)] * (2, 2, 2))
        for atoms in cells:
            path = folder / f"cell{len(atoms)}.extxyz"
            ase.io.write(path, vibration(atoms))
            formula = atoms.get_chemical_formula(mode="metal")
            cases.append(Case(f"cell of {len(atoms)}, {formula}", "calculator", path, [len(atoms)], n_edges(atoms)))
    order = np.random.default_rng(0).permutation(len(files[0]))
    tasks = [(task, size) for task in ("predict", "model") if task in parts for size in BATCH_SIZES]
    tasks += [("training_step", TRAINING_BATCH)] * ("training" in parts)
    for task, size in tasks:
        members = [files[0][k] for k in order[:size]]
        path = folder / f"batch{size}.extxyz"
        ase.io.write(path, members)
        name = f"{task.replace('_', ' ')}, batch of {size}"
        cases.append(Case(name, task, path, [len(atoms) for atoms in members], sum(map(n_edges, members))))
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


def compare(case: Case, name: str, peer: str, outcomes: dict[str, Outcome], same_weights: bool) -> dict[str, Any]:
    """How many times faster we are than a peer, and whether both computed the same."""
    mine, theirs = outcomes[name], outcomes[peer]
    comparison = {"ours": name, "peer": peer}
    if mine.error or theirs.error:
        return comparison | {"error": mine.error or theirs.error}
    comparison["ratio"] = round(median(theirs.seconds) / median(mine.seconds), 2)
    comparison["ratio_of_minima"] = round(min(theirs.seconds) / min(mine.seconds), 2)
    if same_weights:
        comparison["differences"] = differences(mine.check, theirs.check, case.n_atoms)
    return comparison


def differences(mine: dict[str, Any], theirs: dict[str, Any], n_atoms: list[int]) -> dict[str, float]:
    """Largest difference of each quantity that both sides gave, in the units of TOLERANCES."""
    found = {}
    for key in mine.keys() & theirs.keys():
        a, b = np.array(mine[key]), np.array(theirs[key])
        scale = {"energy": np.array(n_atoms), "forces": 1.0, "stress": 1.0}.get(key, np.abs(b))
        found[key] = float(np.max(np.abs(a - b) / scale))
    return {key: float(f"{found[key]:.2g}") for key in sorted(found)}


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


def faults(records: list[dict[str, Any]]) -> list[str]:
    """Where two sides that hold the same weights computed different things, or one failed."""
    found = []
    for record in records:
        case = record["case"]
        found += [f"{case}: {name}: {time['error']}" for name, time in record["times"].items() if "error" in time]
        for comparison in record["comparisons"]:
            names = f"{comparison['ours']} and {comparison['peer']}"
            different = {key: d for key, d in comparison.get("differences", {}).items() if not d <= TOLERANCES[key]}
            found += [f"{case}: {names} differ in {key} by {value}" for key, value in different.items()]
    return found


def was_quiet(record: dict[str, Any]) -> bool:
    return all(time.get("cores_busy_elsewhere", 0.0) <= QUIET for time in record["times"].values())


def table(records: list[dict[str, Any]], threads: int) -> Table:
    """A line for every pair of ours and a peer; for ours alone where there is no peer."""
    result = Table(title=f"{threads} thread{'s' * (threads > 1)}: ms, medians", title_justify="left")
    for heading in (
        "",
        "atoms",
        "edges",
        "ours",
        "ms",
        "1/s",
        "peer",
        "ms",
        "times faster",
        "of minima",
        "max dE eV/atom",
    ):
        result.add_column(heading, justify="left" if heading in ("", "ours", "peer") else "right")
    for record in records:
        lines = record["comparisons"] or [{"ours": name} for name in record["times"]]
        for line in lines:
            mine, theirs = record["times"][line["ours"]], record["times"].get(line.get("peer"), {})
            rate = 1000 * record["structures"] / mine["median_ms"] if "median_ms" in mine else None
            cells = (
                record["case"],
                f"{record['atoms']:,}",
                f"{record['edges']:,}",
                line["ours"],
                _number(mine.get("median_ms"), ".2f"),
                _number(rate, ",.0f"),
                line.get("peer", "-"),
                _number(theirs.get("median_ms"), ".2f"),
                _number(line.get("ratio"), ".1f"),
                _number(line.get("ratio_of_minima"), ".1f"),
                _number(line.get("differences", {}).get("energy"), ".0e"),
            )
            result.add_row(*cells)
        result.add_section()
    return result


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def start_sides(stack: ExitStack, options: argparse.Namespace, threads: int, logs: Path) -> tuple[dict[str, Side], ...]:
    """(our sides by the weights they hold, the peers by name), running and introduced."""

    def start(name: str, python: str, script: str, *arguments: str) -> Side:
        command = [python, SIDES / script, *arguments, "--threads", threads]
        return stack.enter_context(Side(name, command, threads, logs / f"{name}.log".replace(" ", "-")))

    ours = {"m3gnet": start("mlip m3gnet", sys.executable, "mlip_side.py", options.weights)}
    if options.matgl_weights:
        # matgl >= 3 sums messages at the centre whatever direction its weights were trained for.
        centre = json.dumps({"aggregate": "centre"})
        ours["matgl"] = start("mlip matgl", sys.executable, "mlip_side.py", options.matgl_weights, "--config", centre)
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
    console.print(table(records, threads))
    for fault in faults(records):
        console.print(f"FAULT {fault}", markup=False)
    if loud := [record["case"] for record in records if not was_quiet(record)]:
        console.print(
            f"[bold]Not to be trusted[/]: other processes ran meanwhile, in {len(loud)} of {len(records)} cases"
        )
    return {"threads": threads, "sides": sides, "cases": records, "faults": faults(records)}


def pairs(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals or name not in ("matgl", "m3gnet"):
        raise argparse.ArgumentTypeError("give matgl=PATH or m3gnet=PATH")
    return name, path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="labelled crystals; batches: of the first file"
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
