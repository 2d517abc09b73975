"""Our M3GNet under pressure against the values that its group published for theirs, and against PBE.

The folder is benchmark_pressure of the repository hyllios/utils (MIT): input_data.json has crystals, m3gnet.csv and
pbe.csv in data/P100 their volumes and enthalpies per atom at 100 GPa:

    python benchmarks/pressure_published.py M3GNet.safetensors .../benchmark_pressure/input_data.json \\
        .../benchmark_pressure/data --pressures 100 --out benchmarks/results/pressure_published.md

There M3GNet's calculator takes 0.01 for 1/160.2 eV/A^3: cells feel 1.602 times the stress, and a crystal "at 100 GPa"
is one at 62. If that is so, our relaxations with that factor have the published volumes, and those without have others.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from ase import Atoms

import mlip
from mlip.benchmark.suites.pressure import FMAX, STEPS
from mlip.benchmark.verdicts.authors import STRESS_FACTORS
from mlip.data import Entry
from mlip.data.readers import alexandria
from mlip.units import EV_PER_A3_IN_GPA

INTRODUCTION = """# M3GNet under pressure, against what was published of it

By pressure_published.py, from crystals of input_data.json in benchmark_pressure of the repository hyllios/utils, and
the published values beside it. Symmetry kept, fmax 0.0002 eV/A, float64. Volumes in A^3/atom, enthalpies in eV/atom.
"""


def read_csv(path: Path) -> dict[str, tuple[float, float]]:
    """Volume and enthalpy per atom, by material."""
    with path.open() as file:
        return {row["mat_id"]: (float(row["volume"]), float(row["energy_per_atom"])) for row in csv.DictReader(file)}


def crystals_of(path: Path) -> dict[str, Atoms]:
    found = alexandria.read(path, functional="PBE", dimensionality=3)
    frames = {entry.material_id: entry.frame for entry in found if isinstance(entry, Entry)}
    return {name: Atoms(f.numbers, f.positions, cell=f.cell, pbc=True) for name, f in frames.items()}


def relaxed(crystals: dict[str, Atoms], potential, pressure: float, factor: float) -> dict[str, tuple[float, float]]:
    """Volume and enthalpy per atom of what has converged."""
    results = mlip.relax(
        list(crystals.values()),
        potential,
        fmax=FMAX,
        steps=STEPS,
        symmetry=True,
        dtype="float64",
        pressure_gpa=pressure,
        stress_factor=factor,
        progress=False,
    )
    values = {}
    for name, result in zip(crystals, results, strict=True):
        if result.converged:
            n, volume = len(result.atoms), result.atoms.get_volume()
            values[name] = volume / n, (result.energy + pressure / EV_PER_A3_IN_GPA * volume) / n
    return values


def mean_difference(one: dict, other: dict) -> tuple[float, float, int]:
    """Mean absolute differences of volume and enthalpy of what both have, and of how many."""
    shared = sorted(one.keys() & other.keys())
    differences = np.abs([np.subtract(one[name], other[name]) for name in shared])
    return (*(differences.mean(axis=0) if shared else (np.nan, np.nan)), len(shared))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", type=Path)
    parser.add_argument("structures", type=Path, help="input_data.json")
    parser.add_argument("data", type=Path, help="folder of P000, P025, ...")
    parser.add_argument("--pressures", type=int, nargs="+", default=[100], help="GPa")
    parser.add_argument("--out", type=Path, help="a Markdown file")
    arguments = parser.parse_args()

    potential, crystals = mlip.Potential.load(arguments.potential), crystals_of(arguments.structures)
    lines = [INTRODUCTION]
    for pressure in arguments.pressures:
        folder = arguments.data / f"P{pressure:03d}"
        published, pbe = read_csv(folder / "m3gnet.csv"), read_csv(folder / "pbe.csv")
        factors = {f"with a factor of {f:.3f} on the stress": f for f in (1.0, STRESS_FACTORS["m3gnet"])}
        ours = {told: relaxed(crystals, potential, pressure, factor) for told, factor in factors.items()}
        lines += [
            f"## {pressure} GPa, {len(crystals)} crystals",
            "",
            "| ours | against | crystals | volume MAE | enthalpy MAE |",
            "|---|---|---:|---:|---:|",
        ]
        for told, values in ours.items():
            for name, reference in (("published M3GNet", published), ("PBE", pbe)):
                volume, enthalpy, n = mean_difference(values, reference)
                lines.append(f"| {told} | {name} | {n} | {volume:.4f} | {enthalpy:.4f} |")
        here = {name: published[name] for name in crystals if name in published}
        volume, enthalpy, n = mean_difference(here, pbe)
        lines += [f"| published M3GNet | PBE | {n} | {volume:.4f} | {enthalpy:.4f} |", ""]
        lines += ["| crystal | PBE | published | ours, factor 1 | ours, 1.602 |", "|---|---:|---:|---:|---:|"]
        for name in crystals:
            of_all = (pbe, published, *ours.values())
            cells = (f"{values[name][0]:.3f}" if name in values else "-" for values in of_all)
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
