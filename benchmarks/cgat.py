"""CGAT on many crystals of one prototype, beside the original's forward pass in PyTorch with the same weights.

python benchmarks/cgat.py --peer-python PYTHON [--threads 2] [--batch 64] [--out results/cgat.json]

PYTHON is of an environment with PyTorch. Its side runs the released code's equations edge by edge
(sides/cgat_torch_side.py), once with the networks whose result the released code throws away, as it does, once without
them. All get the same crystals of the paper's size; outputs are compared before anything is timed. Predictions from
atomic numbers, and from atoms, are timed for us alone.
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
from ase.data import chemical_symbols
from comparison import QUIET
from rich.console import Console
from rich.table import Table
from side_by_side import SIDES, Contestant, Outcome, Side, machine, pin, race

from mlip.convert import convert
from mlip.data.element_vectors import read_element_vectors
from mlip.graph.shells import neighbor_shells

OURS, RELEASED, LEAN = "mlip", "as released", "without dead nets"
TOLERANCE = 1e-3
"""Of outputs, in standard deviations of them, between single-precision programs."""
HEAVIEST = 94

FACE_CENTERED = [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
OXYGENS = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
PROTOTYPES = {
    "rock salt": ("NaCl", [[0, 0, 0], [0.5, 0.5, 0.5]], 2.8 * np.array(FACE_CENTERED)),
    "half-Heusler": ("LiAlSi", [[0, 0, 0], [0.25] * 3, [0.5] * 3], 3.0 * np.array(FACE_CENTERED)),
    "perovskite": ("SrTiO3", [[0, 0, 0], [0.5, 0.5, 0.5], *OXYGENS], 3.9 * np.eye(3)),
}
"""Formula, fractional positions, cell in A."""


def crystals_of(name: str, n: int) -> list[Atoms]:
    """So many crystals of a prototype with random elements, all different in each."""
    formula, positions, cell = PROTOTYPES[name]
    prototype = Atoms(formula, scaled_positions=positions, cell=cell, pbc=True)
    sites = np.unique(prototype.numbers, return_inverse=True)[1]
    rng = np.random.default_rng(0)
    crystals = []
    for _ in range(n):
        crystals.append(prototype.copy())
        crystals[-1].numbers = rng.choice(np.arange(1, HEAVIEST + 1), sites.max() + 1, replace=False)[sites]
    return crystals


def write_original_batch(crystals: list[Atoms], vectors: np.ndarray, path: Path) -> None:
    """The original's arrays: an own row for each atom and each of its 24 edges, and a graph of the elements."""
    first = crystals[0]
    n, c = len(first), len(crystals)
    near = neighbor_shells(first.positions, first.cell.array, first.pbc)
    offsets = n * np.arange(c)[:, None]
    atoms = np.array([crystal.numbers for crystal in crystals])
    elements, counts = np.array([composition(crystal) for crystal in crystals]).transpose(1, 0, 2)
    k = elements.shape[1]
    pairs = np.array([(i, j) for i in range(k) for j in range(k) if i != j])
    np.savez(
        path,
        x=vectors[atoms.ravel()],
        center=(offsets + np.repeat(np.arange(n), 24)).ravel(),
        neighbor=(offsets + near.neighbors.ravel()).ravel(),
        shell=np.tile(near.shells.ravel(), c).astype(np.int64),
        crystal_of_atom=np.repeat(np.arange(c), n),
        vectors=vectors[elements.ravel()],
        weights=(counts / n).reshape(-1, 1).astype(np.float32),
        self=(k * np.arange(c)[:, None] + pairs[:, 0]).ravel(),
        other=(k * np.arange(c)[:, None] + pairs[:, 1]).ravel(),
        crystal_of_element=np.repeat(np.arange(c), k),
        n_crystals=np.array(c),
    )


def composition(crystal: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Elements in order of appearance, and how many atoms they have."""
    distinct, first, counts = np.unique(crystal.numbers, return_index=True, return_counts=True)
    order = np.argsort(first)
    return distinct[order], counts[order]


def write_vectors(path: Path) -> np.ndarray:
    """Random vectors of unit length, as JSON; by atomic number."""
    rng = np.random.default_rng(1)
    table = rng.normal(size=(HEAVIEST + 1, 200)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    path.write_text(json.dumps({chemical_symbols[z]: table[z].tolist() for z in range(1, HEAVIEST + 1)}))
    assert np.array_equal(read_element_vectors(path)["H"].astype(np.float32), table[1])
    return table


def objection(outcomes: dict[str, Outcome]) -> str | None:
    """In what the sides differ."""
    mine = np.array(outcomes[OURS].check["output"])
    for name in (RELEASED, LEAN):
        if outcomes[name].error is None:
            difference = np.abs(np.array(outcomes[name].check["output"]) - mine).max() / mine.std()
            if not difference < TOLERANCE:
                return f"outputs of {OURS} and {name} differ by {difference:.1g}"
    return None


def measure(name: str, n: int, sides: dict[str, Side], vectors: np.ndarray, folder: Path, options) -> dict[str, Any]:
    """One prototype: everyone's times, and ours from atomic numbers and from atoms."""
    crystals = crystals_of(name, n)
    structures, arrays = folder / "crystals.extxyz", folder / "batch.npz"
    ase.io.write(structures, crystals)
    write_original_batch(crystals, vectors, arrays)
    takers = {side: Contestant(sides[side], "forward", arrays) for side in (RELEASED, LEAN)}
    takers[OURS] = Contestant(sides[OURS], "forward", structures)
    outcomes = race(takers, options.repeats, options.seconds, objection)
    alone = {task: Contestant(sides[OURS], task, structures) for task in ("predict_prototype", "predict")}
    outcomes |= race(alone, options.repeats, options.seconds)
    record: dict[str, Any] = {"prototype": name, "crystals": n, "atoms": len(crystals[0])}
    record["times"] = {taker: outcome.as_dict() for taker, outcome in outcomes.items()}
    if all("median_ms" in time for time in record["times"].values()):
        rates = {taker: 1000 * n / time["median_ms"] for taker, time in record["times"].items()}
        record["per_second"] = {taker: round(rate, 1) for taker, rate in rates.items()}
        record["times_faster"] = {peer: round(rates[OURS] / rates[peer], 1) for peer in (RELEASED, LEAN)}
    return record


def faults(records: list[dict[str, Any]]) -> list[str]:
    """Where the sides computed different things, or one failed."""
    found = [(record["prototype"], name, time) for record in records for name, time in record["times"].items()]
    return [f"{prototype}: {name}: {time['error']}" for prototype, name, time in found if "error" in time]


def show(records: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="Predictions a second", title_justify="left")
    for heading in (
        "prototype",
        "atoms",
        "batch",
        OURS,
        RELEASED,
        "times",
        LEAN,
        "times",
        "from numbers",
        "from atoms",
    ):
        table.add_column(heading, justify="left" if heading == "prototype" else "right")
    for record in records:
        if "per_second" not in record:
            continue
        rates, faster = record["per_second"], record["times_faster"]
        cells = (rates[OURS], rates[RELEASED], faster[RELEASED], rates[LEAN], faster[LEAN])
        cells += (rates["predict_prototype"], rates["predict"])
        table.add_row(record["prototype"], str(record["atoms"]), str(record["crystals"]), *map(str, cells))
    console.print(table)
    for fault in faults(records):
        console.print(f"FAULT {fault}", markup=False)
    if any(time.get("cores_busy_elsewhere", 0) > QUIET for record in records for time in record["times"].values()):
        console.print("[bold]Not to be trusted[/]: other processes ran meanwhile")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="of an environment with PyTorch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64, help="crystals")
    parser.add_argument("--prototypes", nargs="+", choices=list(PROTOTYPES), default=list(PROTOTYPES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="at least, a repeat")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    console = Console(width=160)
    report: dict[str, Any] = {"machine": machine(), "threads": options.threads}
    pin(options.threads)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        weights = folder / "cgat_weights.npz"
        vectors = write_vectors(folder / "vectors.json")

        def start(name: str, python: str, script: str, *arguments: str | Path) -> Side:
            command = [python, SIDES / script, *arguments, "--threads", str(options.threads)]
            return stack.enter_context(Side(name, command, options.threads, folder / f"{name}.log"))

        torch_side = "cgat_torch_side.py"
        sides = {RELEASED: start(RELEASED, options.peer_python, torch_side, weights)}
        sides[LEAN] = start(LEAN, options.peer_python, torch_side, weights, "--without-dead-nets")
        model = convert(weights, element_vectors=folder / "vectors.json").save(folder / "cgat.safetensors")
        sides[OURS] = start(OURS, sys.executable, "cgat_side.py", model)
        report["sides"] = {side.name: side.introduction for side in sides.values()}
        report["cases"] = [measure(name, options.batch, sides, vectors, folder, options) for name in options.prototypes]
    show(report["cases"], console)
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return int(bool(faults(report["cases"])))


if __name__ == "__main__":
    raise SystemExit(main())
