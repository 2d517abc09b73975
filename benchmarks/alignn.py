"""ALIGNN's graphs, prediction and training step, beside pip's `alignn` with the same weights, crystals and cores.

python benchmarks/alignn.py CRYSTALS.extxyz[.gz] --peer-python PYTHON [--threads 2] [--batch 32] [--out FILE.json]

PYTHON is of an environment with `pip install alignn dgl==1.1.3`, whose network of random weights in the configuration
that the paper's authors published (`--model alignn`: that of 2021, with batch normalization) is converted for our side.
Ours is timed twice: with alike atoms, bonds and pairs as one row, and without. Two sets of crystals: as they are, and
rattled by 0.05 A, so that nothing in them is alike. Outputs of the crystals in which both find the same bonds (the peer
loses some to rounding) are compared before anything is timed.
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
from comparison import QUIET
from rich.console import Console
from rich.table import Table
from side_by_side import SIDES, Contestant, Outcome, Side, machine, pin, race

PEER, OURS, UNMERGED = "alignn", "mlip", "mlip, rows one by one"
TASKS = ("graphs", "forward", "train")
TOLERANCE = 2e-4
"""Of outputs, in standard deviations of them, between single-precision programs."""
SAME = 2e-5
"""Means over a crystal's bonds (A) or pairs that differ by less are of the same ones; lattices are rounded to 1e-5."""
RATTLED = 0.05


def write_structures(source: Path, n: int, most_atoms: int, rattled: float, path: Path) -> dict[str, Any]:
    """So many random crystals of the file."""
    rng = np.random.default_rng(0)
    known = [atoms for atoms in ase.io.read(source, ":") if len(atoms) <= most_atoms and atoms.numbers.max() < 95]
    chosen = [known[k] for k in rng.choice(len(known), n, replace=False)]
    for atoms in chosen:
        if rattled:
            atoms.rattle(rattled, rng=rng)
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.01 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.wrap(eps=0)  # of atoms outside the cell the peer takes other images for neighbors
    structures = [
        {"symbols": list(atoms.symbols), "positions": atoms.positions.tolist(), "cell": atoms.cell.array.tolist()}
        for atoms in chosen
    ]
    path.write_text(json.dumps({"structures": structures, "targets": rng.normal(size=n).tolist()}))
    return {"crystals": n, "atoms": round(float(np.mean([len(atoms) for atoms in chosen])), 2)}


def objection(outcomes: dict[str, Outcome]) -> str | None:
    """In what the sides differ, over the crystals in which they find the same bonds and angles."""
    if any(outcome.error for outcome in outcomes.values()):
        return None
    same = np.ones(len(outcomes[PEER].check["edges"]), bool)
    for quantity, tolerance in (("edges", 0), ("lengths", SAME), ("cosines", SAME)):
        if quantity in outcomes[PEER].check:
            theirs = np.array(outcomes[PEER].check[quantity])
            for name in (OURS, UNMERGED):
                same &= np.abs(np.array(outcomes[name].check[quantity]) - theirs) <= tolerance
    if same.mean() < 0.5:
        return f"only {same.sum()} of {len(same)} crystals have the same bonds"
    if "output" not in outcomes[PEER].check:
        return None
    outputs = {name: np.array(outcome.check["output"])[same] for name, outcome in outcomes.items()}
    difference = max(np.abs(outputs[name] - outputs[PEER]).max() for name in (OURS, UNMERGED)) / outputs[PEER].std()
    return None if difference < TOLERANCE else f"outputs differ by {difference:.1g} standard deviations"


def measure(name: str, path: Path, sides: dict[str, Side], options) -> dict[str, Any]:
    record: dict[str, Any] = {"crystals": name, "times": {}, "times_faster": {}, "checks": {}}
    for task in TASKS:
        takers = {
            PEER: Contestant(sides[PEER], task, path),
            OURS: Contestant(sides[OURS], task, path),
            UNMERGED: Contestant(sides[OURS], task, path, {"merges": False}),
        }
        outcomes = race(
            takers,
            options.repeats,
            options.seconds,
            objection if options.model == "alignn_atomwise" or task != "train" else _same_bonds,
        )
        record["times"][task] = {who: outcome.as_dict() for who, outcome in outcomes.items()}
        for who in (OURS, UNMERGED):
            if outcomes[who].seconds and outcomes[PEER].seconds:
                ratios = np.divide(outcomes[PEER].seconds, outcomes[who].seconds)  # of neighboring turns
                record["times_faster"].setdefault(task, {})[who] = round(float(np.median(ratios)), 2)
        record["checks"][task] = {
            who: {key: value for key, value in outcome.check.items() if key in ("rows", "operations", "edges")}
            for who, outcome in outcomes.items()
        }
    return record


def _same_bonds(outcomes: dict[str, Outcome]) -> str | None:
    """Batch statistics run over all crystals, so that one with other bonds changes the outputs of all."""
    kept = ("edges", "lengths", "cosines")
    without = {name: {key: o.check[key] for key in kept if key in o.check} for name, o in outcomes.items()}
    return objection({name: o._replace(check=without[name]) for name, o in outcomes.items()})


def show(records: list[dict[str, Any]], batch: int, console: Console) -> None:
    table = Table(title=f"Milliseconds for {batch} crystals", title_justify="left")
    for heading in ("crystals", "task", PEER, OURS, "times", UNMERGED, "times"):
        table.add_column(heading, justify="right" if heading not in ("crystals", "task") else "left")
    for record in records:
        for task in TASKS:
            times, faster = record["times"][task], record["times_faster"].get(task, {})
            cells = {who: str(times[who].get("median_ms", times[who].get("error"))) for who in times}
            table.add_row(
                record["crystals"],
                task,
                cells[PEER],
                cells[OURS],
                str(faster.get(OURS, "-")),
                cells[UNMERGED],
                str(faster.get(UNMERGED, "-")),
            )
    console.print(table)
    times = [time for record in records for task in TASKS for time in record["times"][task].values()]
    if any(time.get("cores_busy_elsewhere", 0) > QUIET for time in times):
        console.print("[bold]Not to be trusted[/]: other processes ran meanwhile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crystals", type=Path)
    parser.add_argument("--peer-python", required=True, help="of an environment with alignn and dgl")
    parser.add_argument("--model", default="alignn_atomwise", choices=["alignn", "alignn_atomwise"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32, help="crystals")
    parser.add_argument("--most-atoms", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="at least, a repeat")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "threads": options.threads, "model": options.model}
    pin(options.threads)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        weights = folder / "alignn_weights.npz"

        def start(name: str, python: str, script: str, *more: str) -> Side:
            command = [python, SIDES / script, weights, "--threads", str(options.threads), *more]
            environment = {"DGLBACKEND": "pytorch"}
            return stack.enter_context(Side(name, command, options.threads, folder / f"{name}.log", environment))

        sides = {PEER: start(PEER, options.peer_python, "alignn_torch_side.py", "--model", options.model)}
        sides[OURS] = start(OURS, sys.executable, "alignn_side.py")
        report["sides"] = {side.name: side.introduction for side in sides.values()}
        report["cases"] = []
        for kind, rattled in (("as they are", 0.0), ("rattled", RATTLED)):
            path = folder / f"{kind}.json"
            report |= write_structures(options.crystals, options.batch, options.most_atoms, rattled, path)
            report["cases"].append(measure(kind, path, sides, options))
    show(report["cases"], options.batch, Console(width=160))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
