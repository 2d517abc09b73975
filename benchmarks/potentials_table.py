"""Potentials side by side on the materials that all of them have been tried on: the paper's tables of volumes and
energies, with intervals and cost.

    mlip benchmark relaxation m3gnet crystals.h5 --split all --out m3gnet/
    mlip benchmark relaxation ase:chgnet.model.dynamics:CHGNetCalculator crystals.h5 --split all --out chgnet/
    python benchmarks/potentials_table.py M3GNet=m3gnet/ CHGNet=chgnet/ --out benchmarks/results/potentials_table.md

Runs that were stopped before their end take part with what they have.
"""

import argparse
from functools import reduce
from operator import and_
from pathlib import Path
from statistics import mean, median

from mlip.benchmark.paper_tables import energy_table, volume_table
from mlip.benchmark.results import PotentialResults, load_results


def in_common(potentials: list[PotentialResults]) -> list[PotentialResults]:
    """Each with its records of the materials that all have."""
    shared = reduce(and_, ({record["id"] for record in potential.records} for potential in potentials))
    return [
        PotentialResults(p.name, p.sha256, p.headers, [record for record in p.records if record["id"] in shared])
        for p in potentials
    ]


def costs(potentials: list[PotentialResults]) -> str:
    """How each was evaluated, and what a force call took."""
    lines = ["| potential | evaluated | force calls each | s each, median | mean |", "|---|---|---:|---:|---:|"]
    for potential in potentials:
        named = potential.headers[0]["potential"]
        how = f"one by one, {named['package']}" if "ase" in named else "together, by `mlip`"
        calls = sum(record["n_steps"] + 1 for record in potential.records)
        seconds = [record["seconds"] for record in potential.records]
        lines.append(
            f"| {potential.name} | {how} | {calls / len(seconds):.1f} | {median(seconds):.2f} | {mean(seconds):.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="NAME=RESULTS")
    parser.add_argument("--with-paper", action="store_true", help="the paper's own rows beside")
    parser.add_argument("--note", default="", help="a sentence on where and when this was run")
    parser.add_argument("--out", type=Path, help="write the tables here as Markdown")
    options = parser.parse_args()
    potentials = in_common(load_results(options.results))
    n = len(potentials[0].records)
    parts = [
        f"# {len(potentials)} potentials on the same {n} crystals",
        f"Written by `benchmarks/potentials_table.py`. {options.note}".strip(),
        *(make(potentials, options.with_paper).to_markdown() for make in (volume_table, energy_table)),
        "**Cost**",
        costs(potentials),
    ]
    text = "\n\n".join(parts) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
