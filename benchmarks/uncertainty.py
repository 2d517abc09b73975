"""Whether potentials know when they are wrong: AUROC, coverage of 90 % intervals, and what the uncertainty costs.

Quality, from relaxations of materials that neither training nor calibration has seen:

    mlip ensemble run-0/potential.safetensors run-1/potential.safetensors ... --out ensemble.safetensors
    mlip calibrate ensemble.safetensors training.h5 --out four.safetensors
    mlip calibrate run-0/potential.safetensors training.h5 --out one.safetensors
    mlip benchmark relaxation four.safetensors crystals.h5 --split all --out four/
    mlip benchmark relaxation one.safetensors crystals.h5 --split all --out one/
    python benchmarks/uncertainty.py quality ensemble=four/ "last layer=one/" --out benchmarks/results/uncertainty.md

Cost, of potentials beside the first, which has no uncertainty; all in one run, by turns:

    python benchmarks/uncertainty.py cost run-0/potential.safetensors four.safetensors one.safetensors
"""

import argparse
import statistics
import time
from pathlib import Path

import ase.build
from ase import Atoms
from ase.io import read

import mlip
from mlip.benchmark.certainty import certainty_tables
from mlip.benchmark.results import load_results


def structures_of(path: Path | None, n: int) -> list[Atoms]:
    """The first structures of a file, or rocksalt crystals."""
    if path is not None:
        return read(path, f":{n}")
    made = []
    for k in range(n):
        atoms = ase.build.bulk("NaCl", "rocksalt", a=5.5 + 0.01 * k, cubic=True)
        atoms.rattle(0.05, seed=k)
        made.append(atoms)
    return made


def cost(paths: list[Path], structures: list[Atoms], repeats: int) -> str:
    """Seconds of each potential for all structures together, for one in a calculator, and to relax some of them."""
    potentials = [mlip.load(path) for path in paths]

    def batch(potential) -> None:
        potential.predict(structures)

    def single(potential) -> None:
        atoms = structures[0].copy()
        atoms.calc = calculators[potential]
        for k in range(10):
            atoms.rattle(0.001, seed=k)
            atoms.get_forces()

    def relaxation(potential) -> None:
        mlip.relax(structures, potential, steps=20, fmax=1e-6, progress=False)

    calculators = {potential: mlip.MLIPCalculator(potential) for potential in potentials}
    lines = ["| potential | uncertainty | task | seconds | times the first's |", "|---|---|---|---:|---:|"]
    tasks = {f"predict {len(structures)}": batch, "10 steps of one": single, "relax, 20 steps each": relaxation}
    for name, task in tasks.items():
        for potential in potentials:  # compiles
            task(potential)
            task(potential)
        seconds = {potential: [] for potential in potentials}
        for _ in range(repeats):
            for potential in potentials:
                started = time.perf_counter()
                task(potential)
                seconds[potential].append(time.perf_counter() - started)
        first = seconds[potentials[0]]
        for path, potential in zip(paths, potentials, strict=True):
            kind = "none" if potential.uncertainty is None else potential.uncertainty.kind
            ratio = statistics.median(ours / theirs for ours, theirs in zip(seconds[potential], first, strict=True))
            taken = statistics.median(seconds[potential])
            lines.append(f"| {path.stem} | {kind} | {name} | {taken:.4f} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    quality = commands.add_parser("quality", help="from records of `mlip benchmark relaxation`")
    quality.add_argument("results", nargs="+", metavar="NAME=RESULTS")
    costs = commands.add_parser("cost", help="of potentials, beside the first")
    costs.add_argument("potentials", nargs="+", type=Path)
    costs.add_argument("--structures", type=Path, help="a file that ASE reads; by default rocksalt crystals")
    costs.add_argument("--n", type=int, default=64)
    costs.add_argument("--repeats", type=int, default=5)
    for command in (quality, costs):
        command.add_argument("--note", default="", help="a sentence on where and when this was run")
        command.add_argument("--out", type=Path, help="write the table here as Markdown")
    options = parser.parse_args()
    if options.command == "quality":
        tables = [table.to_markdown() for table in certainty_tables(load_results(options.results))]
        if not tables:
            parser.error("no record has an energy_std: relax with a calibrated potential or an ensemble")
        title = "Uncertainties beside errors"
    else:
        structures = structures_of(options.structures, options.n)
        tables = [cost(options.potentials, structures, options.repeats)]
        title = "Cost of an uncertainty"
    text = f"# {title}\n\nWritten by `benchmarks/uncertainty.py`. {options.note}".strip()
    text = "\n\n".join([text, *tables]) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
