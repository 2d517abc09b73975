"""CrabNet's prediction and training step, beside pip's `crabnet` in PyTorch with the same weights, cores and batches.

python benchmarks/crabnet.py FORMULAS.csv[.gz] [...] --peer-python PYTHON [--threads 2] [--batch 1024] [--out FILE.json]

PYTHON is of an environment with PyTorch, `pip install --no-deps crabnet` and pandas, scipy, scikit-learn, matplotlib,
seaborn, tqdm. Each table has the columns "formula" and "target". Both sides get the same random rows of it. The peer's
batch is as wide as the table's richest formula, as its loader makes it. Outputs and losses are compared before anything
is timed. Compositions a second from formulas to predictions are timed for us alone, and so is a large matrix product:
the share of its rate that a task's products reach says how much faster the same products could be at best.
"""

import argparse
import csv
import gzip
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from comparison import QUIET
from rich.console import Console
from rich.table import Table
from side_by_side import SIDES, Contestant, Outcome, Side, machine, pin, race

from mlip.graph.composition import compositions_of_formulas

OURS, PEER = "mlip", "crabnet"
TASKS = {"forward": "output", "train": "loss"}
TOLERANCE = 1e-3
"""Of outputs, in standard deviations of them, and of losses, between single-precision programs."""
SCREENED = 8192


def write_batch(table: Path, n: int, path: Path) -> dict[str, Any]:
    """So many random rows of a table as arrays; the numbers of elements that they have."""
    with (gzip.open if table.suffix == ".gz" else open)(table, "rt") as file:
        rows = list(csv.DictReader(file))
    compositions = compositions_of_formulas([row["formula"] for row in rows])
    targets = np.array([float(row["target"]) for row in rows])
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(rows), n, replace=n > len(rows))
    screened = rng.choice(len(rows), SCREENED, replace=len(rows) < SCREENED)
    np.savez(
        path,
        species=compositions.species[chosen],
        fractions=compositions.fractions[chosen],
        targets=((targets[chosen] - targets.mean()) / targets.std()).astype(np.float32),
        formulas=np.array([rows[k]["formula"] for k in screened]),
    )
    mean = compositions.n_elements[chosen].mean()
    return {"rows": len(rows), "width": compositions.species.shape[1], "mean_elements": round(float(mean), 2)}


def objection_to(quantity: str):
    """In what the sides differ."""

    def objection(outcomes: dict[str, Outcome]) -> str | None:
        if any(outcome.error for outcome in outcomes.values()):
            return None
        mine, theirs = (np.array(outcomes[name].check[quantity]) for name in (OURS, PEER))
        difference = np.abs(mine - theirs).max() / (mine.std() if mine.size > 1 else 1.0)
        return None if difference < TOLERANCE else f"{quantity} of {OURS} and {PEER} differ by {difference:.1g}"

    return objection


def measure(table: Path, sides: dict[str, Side], folder: Path, options) -> dict[str, Any]:
    """Everyone's times for the tasks that both have, and our rate from formulas."""
    batch = folder / "batch.npz"
    record = {"table": table.name.split(".")[0], "batch": options.batch} | write_batch(table, options.batch, batch)
    peak = race({OURS: Contestant(sides[OURS], "peak", batch)}, options.repeats, options.seconds)[OURS]
    record["peak_gflops"] = round(_gflops(peak))
    record["times"], record["times_faster"], record["share_of_peak"] = {}, {}, {}
    for task, quantity in TASKS.items():
        takers = {name: Contestant(side, task, batch) for name, side in sides.items()}
        outcomes = race(takers, options.repeats, options.seconds, objection_to(quantity))
        record["times"][task] = {name: outcome.as_dict() for name, outcome in outcomes.items()}
        if all("median_ms" in times for times in record["times"][task].values()):
            ratios = np.divide(outcomes[PEER].seconds, outcomes[OURS].seconds)  # of neighboring turns
            record["times_faster"][task] = round(float(np.median(ratios)), 2)
            record["share_of_peak"][task] = round(_gflops(outcomes[OURS]) / _gflops(peak), 2)
    alone = race({OURS: Contestant(sides[OURS], "screen", batch)}, options.repeats, options.seconds)[OURS]
    record["times"]["screen"] = alone.as_dict()
    record["compositions_a_second"] = round(SCREENED / float(np.median(alone.seconds)))
    return record


def _gflops(outcome: Outcome) -> float:
    return outcome.check["matmul_flops"] / float(np.median(outcome.seconds)) / 1e9


HEADINGS = (
    *("table", "elements", "width", *(f"{task} {name}" for task in TASKS for name in (OURS, PEER, "times", "of peak"))),
    "compositions/s",
)


def rows_of(records: list[dict[str, Any]]) -> list[list[str]]:
    rows = []
    for record in records:
        cells = [record["table"], str(record["mean_elements"]), str(record["width"])]
        for task in TASKS:
            times = record["times"][task]
            cells += [str(times[name].get("median_ms", times[name].get("error"))) for name in (OURS, PEER)]
            cells += [
                str(record["times_faster"].get(task, "-")),
                f"{record['share_of_peak'].get(task, float('nan')):.0%}",
            ]
        rows.append([*cells, f"{record['compositions_a_second']:,}"])
    return rows


def busiest(records: list[dict[str, Any]]) -> float:
    """Cores that other processes kept busy meanwhile, at most."""
    times = [time for record in records for task in TASKS for time in record["times"][task].values()]
    return max(time.get("cores_busy_elsewhere", 0.0) for time in times)


def as_markdown(report: dict[str, Any]) -> str:
    records = report["cases"]
    where = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in report["machine"].items())
    packages = {name: version for side in report["sides"].values() for name, version in side["versions"].items()}
    lines = [
        "# CrabNet, beside pip's crabnet",
        "",
        f"Written by `benchmarks/crabnet.py`: milliseconds for a batch of {records[0]['batch']} compositions, the "
        f"original's dimensions, {report['threads']} threads; of peak: the rate of our matrix products over that of a "
        f"large one ({records[0]['peak_gflops']} Gflop/s); compositions a second from formulas to predictions.",
        "",
        f"{where}; {', '.join(f'{name} {version}' for name, version in packages.items())}; other processes kept "
        f"{busiest(records)} cores busy at most.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---" * len(HEADINGS) + "|",
        *("| " + " | ".join(row) + " |" for row in rows_of(records)),
    ]
    return "\n".join(lines) + "\n"


def show(records: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="Milliseconds a batch, and our rate from formulas", title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "table" else "right")
    for row in rows_of(records):
        table.add_row(*row)
    console.print(table)
    if busiest(records) > QUIET:
        console.print("[bold]Not to be trusted[/]: other processes ran meanwhile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--peer-python", required=True, help="of an environment with PyTorch and crabnet")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1024, help="compositions")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="at least, a repeat")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    parser.add_argument("--report", type=Path, help="write the table here as Markdown")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "threads": options.threads}
    pin(options.threads)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        weights = folder / "crabnet_weights.npz"

        def start(name: str, python: str, script: str) -> Side:
            command = [python, SIDES / script, weights, "--threads", str(options.threads)]
            return stack.enter_context(Side(name, command, options.threads, folder / f"{name}.log"))

        sides = {PEER: start(PEER, options.peer_python, "crabnet_torch_side.py")}
        sides[OURS] = start(OURS, sys.executable, "crabnet_side.py")
        report["sides"] = {side.name: side.introduction for side in sides.values()}
        report["cases"] = [measure(table, sides, folder, options) for table in options.tables]
    show(report["cases"], Console(width=160))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    if options.report:
        options.report.write_text(as_markdown(report))


if __name__ == "__main__":
    main()
