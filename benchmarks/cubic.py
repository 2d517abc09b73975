"""Lattice constants of the 92 cubic crystals in m3gnet's README, relaxed from a = 5.0 A whatever the crystal.

Against experiment, Materials Project's DFT (91 of them) and what the original M3GNet relaxed to in its own code
(mlip/benchmark/suites/cubic_crystals.csv says where the numbers are from):

    mlip convert .../goldens/m3gnet m3gnet.safetensors
    python benchmarks/cubic.py m3gnet.safetensors --out benchmarks/results/cubic.md

As there: conventional cells, carbides taken as stoichiometric, no symmetry imposed, at most 500 steps of FIRE; there
fmax was 0.1 eV/A, which leaves soft crystals a per cent from their minimum.

CsCl ends elsewhere than in the original's run: the potential has two minima along its a, at 4.20 and at 4.95 A (0.46 eV
higher), and 5.0 A is on the slope of the second.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.formula import Formula

import mlip
from mlip.benchmark.suites.crystals import TABLE

START = 5.0
"""A."""
SAME = 0.1
"""%: the original's a is reproduced."""
CLOSE = 1.0
"""%: as the README counts."""


def read_table() -> list[dict[str, str]]:
    text = TABLE.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in text if not line.startswith("#")))


def conventional_cell(material: str, structure: str, a: float) -> Atoms:
    """The conventional cubic cell. ABX3 perovskites: A in the corners, B in the center, X on the faces."""
    if structure != "perovskite":
        return bulk(material, structure, a=a, cubic=True)
    large, small, anion = Formula(material).count()
    sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0, 0.5, 0.5), (0.5, 0, 0.5)]
    return Atoms([large, small, *3 * [anion]], scaled_positions=sites, cell=a * np.eye(3), pbc=True)


def deviation(result: mlip.RelaxResult, reference: str) -> float:
    """Of the relaxed a from a reference, %; NaN where one of them is not there."""
    return 100 * (lattice_constant(result) / float(reference) - 1) if reference else float("nan")


def lattice_constant(result: mlip.RelaxResult) -> float:
    """A; NaN for what failed."""
    return float("nan") if result.failed else result.atoms.get_volume() ** (1 / 3)


def is_cubic(result: mlip.RelaxResult) -> bool:
    """The cell's vectors differ by less than 0.1 % and are perpendicular to 0.1 degrees."""
    lengths, angles = np.split(result.atoms.cell.cellpar(), 2)
    return bool(np.ptp(lengths) < 1e-3 * lengths.mean() and np.abs(angles - 90).max() < 0.1)


def summary(results: list[mlip.RelaxResult], table: list[dict[str, str]]) -> list[str]:
    reasons = Counter(result.reason for result in results)
    lines = [
        f"{len(results)} crystals: " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()),
        f"{sum(is_cubic(result) for result in results if not result.failed)} stayed cubic",
        "",
        f"| a against | crystals | within {SAME} % | within {CLOSE} % | median \\|error\\| % | MAPE % |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, column in (
        ("the original code", "a_m3gnet"),
        ("Materials Project", "a_mp"),
        ("experiment", "a_experiment"),
    ):
        errors = np.abs([deviation(result, row[column]) for result, row in zip(results, table, strict=True)])
        errors = errors[np.isfinite(errors)]
        counts = f"{len(errors)} | {(errors < SAME).sum()} | {(errors < CLOSE).sum()}"
        lines.append(f"| {name} | {counts} | {np.median(errors):.3f} | {errors.mean():.2f} |")
    return lines


def rows(results: list[mlip.RelaxResult], table: list[dict[str, str]]) -> list[str]:
    lines = [
        "| crystal | structure | a, A | ended by | steps | original, A | % | MP, A | % |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result, row in zip(results, table, strict=True):
        cells = [row["material"], row["structure"], f"{lattice_constant(result):.4f}", result.reason, result.n_steps]
        for column in ("a_m3gnet", "a_mp"):
            cells += [row[column] or "-", f"{deviation(result, row[column]):+.2f}" if row[column] else "-"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", type=Path)
    parser.add_argument("--fmax", type=float, default=0.005)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--out", type=Path, help="a Markdown file")
    arguments = parser.parse_args()

    table = read_table()
    crystals = [conventional_cell(row["material"], row["structure"], START) for row in table]
    results = mlip.relax(
        crystals, arguments.potential, fmax=arguments.fmax, steps=arguments.steps, dtype=arguments.dtype
    )
    title = (
        f"{arguments.potential.stem}: {len(table)} cubic crystals from a = {START} A, fmax {arguments.fmax} eV/A, "
        f"at most {arguments.steps} steps, {arguments.dtype}, mlip {mlip.__version__}"
    )
    report = "\n".join([f"**{title}**", "", *summary(results, table), "", *rows(results, table), ""])
    print(report)
    if arguments.out:
        arguments.out.write_text(report)


if __name__ == "__main__":
    main()
