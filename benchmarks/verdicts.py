"""The authors' verdict in our engine against their rules applied by ASE: crystals, layers and chains of the data pack.

    python benchmarks/verdicts.py .../data M3GNet.safetensors M3GNet-2D.safetensors --crystals 120 \\
        --out runs/verdicts --report benchmarks/results/verdicts.md

Two comparisons a potential, each with a table of what differs:

- endings: every material relaxed once in our engine; both readings of the rules on geometry judge the same endings;
- one by one: a sample relaxed by ASE from the start, in rounds, with the factor on M3GNet's stress.

Beside them the table of failures by verdict, and Tables 3 and 4 under both.
"""

import argparse
import time
from pathlib import Path

import authors_by_ase
import numpy as np
from ase import Atoms
from ase.io import write
from paper_structures import structures

from mlip.benchmark.paper_tables import energy_table, volume_table
from mlip.benchmark.relaxation import run_relaxation_benchmark
from mlip.benchmark.results import in_all_verdicts
from mlip.benchmark.verdicts import authors
from mlip.benchmark.verdicts.table import verdict_table
from mlip.data.build import build
from mlip.potential import Potential

CHAINS = Path(__file__).parents[1] / "datasets" / "quickstart" / "surrogate_paths_1d.json.bz2"
INTRODUCTION = """# The verdict of the paper's group, in our engine and by ASE

By verdicts.py, on alexandria-random-1k (crystals, evenly chosen), layers of Materials Cloud and mech2d, the
quickstart's chains (relaxed by a surrogate) and chains built by hand. Seconds are of the machine as it was, busy with
other work.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data pack's folder")
    parser.add_argument("potentials", type=Path, nargs="+", help=".safetensors files; their names are the rows'")
    parser.add_argument("--crystals", type=int, default=120, help="of alexandria-random-1k")
    parser.add_argument("--sample", type=int, default=24, help="materials relaxed by ASE, evenly chosen")
    parser.add_argument("--out", type=Path, required=True, help="folder for the store and results.jsonl")
    parser.add_argument("--report", type=Path, help="a Markdown file")
    arguments = parser.parse_args()

    store = store_of(arguments)
    results, sections = [], []
    for path in arguments.potentials:
        run = run_relaxation_benchmark(
            path,
            store,
            arguments.out / path.stem,
            split="all",
            verdict="authors",
            allow_functional_mismatch=True,  # on purpose: the tables say so
        )
        results.append(run.results)
        sections.append(endings(path.stem, run.records))
        sections.append(one_by_one(path, run.records, arguments.sample))
    judged = in_all_verdicts(results)
    tables = [*verdict_table(results), volume_table(judged, with_paper=True), energy_table(judged, with_paper=True)]
    text = "\n".join([INTRODUCTION, *sections, *(table.to_markdown() for table in tables)])
    print(text)
    if arguments.report:
        arguments.report.write_text(text)


def store_of(arguments: argparse.Namespace) -> Path:
    """Crystals, layers and chains in one store."""
    path = arguments.out / f"materials-{arguments.crystals}.h5"
    if not path.exists():
        source = path.with_suffix(".extxyz")
        source.parent.mkdir(parents=True, exist_ok=True)
        crystals = structures("alexandria-random-1k", arguments.data)
        chosen = np.linspace(0, len(crystals) - 1, arguments.crystals).round().astype(int)
        others = structures("layers", arguments.data) + structures("chains", arguments.data)
        write(source, [crystals[k] for k in chosen] + others)
        build([source, CHAINS], path)
    return path


def in_the_setting(atoms: Atoms, dimensionality: int) -> Atoms:
    """Chains along c and z, where they are along a and x."""
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    if dimensionality == 1:
        turn = [1, 2, 0]
        atoms = Atoms(atoms.numbers, atoms.positions[:, turn], cell=atoms.cell.array[turn][:, turn], pbc=True)
    return atoms


def start_of(record: dict) -> Atoms:
    atoms = Atoms(record["numbers"], record["initial_positions"], cell=record["initial_cell"], pbc=True)
    return in_the_setting(atoms, record["dimensionality"])


def second_reading(record: dict) -> str | None:
    """The rule that a material breaks by its start, its end or its forces, as the second reading has it."""
    dimensionality = record["dimensionality"]
    renew, thick = (rules[f"{dimensionality}d"] for rules in (authors_by_ase.RENEW, authors_by_ase.THICK))
    try:
        renew(start_of(record), thick and 1.5 * thick, True)
        if record["volume"] is None:
            return record["reason"]
        end = Atoms(record["numbers"], record["positions"], cell=record["cell"], pbc=True)
        renew(in_the_setting(end, dimensionality), thick, True)
    except authors_by_ase.FailedError as failed:
        return str(failed)
    return None if record["fmax"] < authors.FMAX else authors.UNCONVERGED


def endings(name: str, records: list[dict]) -> str:
    pairs = [(record, record["verdicts"]["authors"]["reason"], second_reading(record)) for record in records]
    return _told(f"{name}: {len(records)} endings, judged twice", pairs)


def one_by_one(path: Path, records: list[dict], n: int) -> str:
    """A sample relaxed by ASE, of each dimensionality and of what has failed as much as there is room for."""
    failed = [record for record in records if record["verdicts"]["authors"]["failed"]]
    fine = [record for record in records if not record["verdicts"]["authors"]["failed"]]
    few = [failed[k] for k in np.linspace(0, len(failed) - 1, min(len(failed), n // 4)).astype(int)]
    by_kind = [[r for r in fine if r["dimensionality"] == d and r["n_atoms"] <= 20] for d in (3, 2, 1)]
    room = (n - len(few)) // 3
    chosen = few + [r for kind in by_kind for r in (kind[:: max(len(kind) // room, 1)][:room] if room else [])]
    potential = Potential.load(path)
    calculator = authors_by_ase.WithStressFactor(potential, authors.stress_factor(potential))
    pairs, differences, began = [], [], time.perf_counter()
    for record in chosen:
        end, rule = authors_by_ase.relax(start_of(record), f"{record['dimensionality']}d", calculator, True)
        pairs.append((record, record["verdicts"]["authors"]["reason"], rule))
        if end is not None and record["volume"] is not None:
            differences.append(abs(end.get_potential_energy() - record["energy"]) / record["n_atoms"])
    seconds = time.perf_counter() - began
    ours = sum(record["seconds"] for record in chosen)
    told = _told(f"{path.stem}: {len(chosen)} materials relaxed by ASE one by one", pairs)
    note = (
        "Where the engine says isolated and ASE nothing: an atom has no neighbor within the cutoff. The group's own "
        "M3GNet raises an exception on it, which is a failure, too; our calculator gives zeros.\n\n"
    )
    isolated = any("isolated" == ours != theirs for _, ours, theirs in pairs)
    return (
        told
        + (note if isolated else "")
        + (
            f"ASE took {seconds:.0f} s, the engine {ours:.0f} s (compilation apart). Relaxed energies differ by "
            f"{1000 * np.median(differences):.2f} meV/atom in the median, {1000 * max(differences):.2f} at most.\n"
            if differences
            else ""
        )
    )


def _told(title: str, pairs: list[tuple[dict, str | None, str | None]]) -> str:
    """Counts, and a row for each verdict or reason that differs."""
    same_verdict = sum((ours is None) == (theirs is None) for _, ours, theirs in pairs)
    same_reason = sum(ours == theirs for _, ours, theirs in pairs)
    lines = [
        f"**{title}**\n",
        f"Same verdict: {same_verdict} of {len(pairs)} ({100 * same_verdict / max(len(pairs), 1):.1f} %); same reason: "
        f"{same_reason}; failed: {sum(ours is not None for _, ours, _ in pairs)} in the engine, "
        f"{sum(theirs is not None for *_, theirs in pairs)} by the second reading.\n",
    ]
    rows = [
        f"| {record['id']} | {record['formula']} | {record['dimensionality']}D | {ours or '-'} | {theirs or '-'} |"
        for record, ours, theirs in pairs
        if ours != theirs
    ]
    if rows:
        lines += ["| material | formula | | engine | ASE |", "|---|---|---|---|---|", *rows, ""]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
