"""What an atom costs: M3GNet against MACE of every order, energy, forces and stress of the same crystals.

    python benchmarks/cost.py alexandria-random-1k.extxyz.gz [--threads 1] [--out benchmarks/results/cost.json]

The paper's Discussion calls MACE 'more than an order of magnitude slower than M3GNet'. Dimensions are the published
ones: M3GNet with 64 units (the paper's) and with 128, MACE-MP-0 small, medium and large (L = 0, 1, 2; 128 channels).
Weights are random, which costs the same. Each model evaluates the same crystals in the batches that `Potential.predict`
makes, its graphs ready; the models take turns. Most of the ratio is the number of edges: 6 A hold more than 5 A.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import ase.io
from cases import batch_case, n_edges
from comparison import QUIET
from pydantic import BaseModel
from random_potential import random_potential
from side_by_side import SIDES, Contestant, Outcome, Side, machine, pin, race

from mlip.benchmark.tables import Table
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.potential import Potential

MODELS: dict[str, BaseModel] = {
    "M3GNet, 64 units": M3GNetConfig(units=64),
    "M3GNet, 128 units": M3GNetConfig(units=128),
    "MACE, L = 0": MACEConfig(max_l=0),
    "MACE, L = 1": MACEConfig(max_l=1),
    "MACE, L = 2": MACEConfig(max_l=2),
}


def records(
    potentials: dict[str, Potential], outcomes: dict[str, Outcome], n_atoms: int, edges: dict[float, int]
) -> list[dict[str, Any]]:
    """One for each model; the first is what the others are compared with.

    Args:
        edges: of all crystals, by cutoff.
    """
    reference = next(iter(outcomes.values()))
    found = []
    for name, outcome in outcomes.items():
        potential = potentials[name]
        record: dict[str, Any] = {
            "model": name,
            "parameters": potential.n_parameters,
            "cutoff": potential.cutoff,
            "edges_per_atom": round(edges[potential.cutoff] / n_atoms, 1),
            **outcome.as_dict(),
        }
        if not outcome.error:
            seconds = median(outcome.seconds)
            record["us_per_atom"] = round(1e6 * seconds / n_atoms, 1)
            record["us_per_edge"] = round(1e6 * seconds / edges[potential.cutoff], 3)
            record["times_the_first"] = round(seconds / median(reference.seconds), 2)
        found.append(record)
    return found


def table(report: dict[str, Any]) -> Table:
    """For people; Markdown is what is printed."""
    first = report["models"][0]["model"]
    columns = ("", "parameters", "cutoff, A", "edges an atom", "us an atom", "us an edge", f"times {first}")
    rows = [
        (
            record["model"],
            f"{record['parameters']:,}",
            f"{record['cutoff']:g}",
            f"{record['edges_per_atom']:.1f}",
            *(str(record.get(key, "-")) for key in ("us_per_atom", "us_per_edge", "times_the_first")),
        )
        for record in report["models"]
    ]
    title = f"Energy, forces and stress of {report['crystals']} crystals of {report['data']}, {report['atoms']} atoms"
    notes = [f"{report['threads']} thread(s) of {report['machine']['processor']}, {report['machine']['date']}; medians"]
    if any(record.get("cores_busy_elsewhere", 0.0) > QUIET for record in report["models"]):
        notes.append("Not to be trusted: other processes ran meanwhile")
    return Table("cost", title, columns, tuple(rows), tuple(notes))


def measure(path: Path, size: int, threads: int, repeats: int, seconds: float) -> dict[str, Any]:
    """All models on `size` crystals of the file."""
    where_and_when = machine()
    potentials = {name: random_potential(config) for name, config in MODELS.items()}
    known = set.intersection(*(set(potential.config.known_numbers) for potential in potentials.values()))
    cutoffs = {potential.cutoff for potential in potentials.values()}
    structures = [atoms for atoms in ase.io.read(path, ":") if known.issuperset(atoms.numbers)]
    pin(threads)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        case = batch_case(structures, "model", size, folder, max(cutoffs))
        sides = {}
        for number, (model, potential) in enumerate(potentials.items()):
            file = potential.save(folder / f"{number}.safetensors")
            command = [sys.executable, SIDES / "mlip_side.py", file, "--threads", threads]
            sides[model] = stack.enter_context(Side(model, command, threads, folder / f"{number}.log"))
        takers = {model: Contestant(side, case.task, case.path) for model, side in sides.items()}
        outcomes = race(takers, repeats, seconds)
        crystals = ase.io.read(case.path, ":")
        introduction = next(iter(sides.values())).introduction
    edges = {cutoff: sum(n_edges(atoms, cutoff) for atoms in crystals) for cutoff in cutoffs}
    return {
        "machine": where_and_when,
        "device": introduction["device"],
        "versions": introduction["versions"],
        "threads": threads,
        "data": path.name,
        "crystals": size,
        "atoms": sum(case.n_atoms),
        "models": records(potentials, outcomes, sum(case.n_atoms), edges),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="crystals: any file that ase.io reads")
    parser.add_argument("--crystals", type=int, default=64, help="how many of them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="at least, a repeat")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    if not options.data.is_file():
        parser.error(f"{options.data}: no such file; ALEXANDRIA crystals as extxyz are needed")
    report = measure(options.data, options.crystals, options.threads, options.repeats, options.seconds)
    print(table(report).to_markdown())
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return int(any("error" in record for record in report["models"]))


if __name__ == "__main__":
    raise SystemExit(main())
