"""The suites' tables of several potentials: `mlip benchmark suite all --quick`, the low-dimensional suite on the data
pack's layers, and `mlip benchmark eos` on its oxides.

    python benchmarks/suites.py .../data m3gnet-mp-2021.2.8.safetensors m3gnet-2d.safetensors --out runs/suites \\
        --report benchmarks/results/suites.md

A run that was killed goes on; what is done is not redone. OUT/NAME/suites.json is a potential's row.
"""

import argparse
from pathlib import Path

from ase.io import write
from paper_structures import structures

from mlip.benchmark.eos_benchmark import run_eos_benchmark
from mlip.benchmark.suites import NAMES
from mlip.benchmark.suites.rows import comparison, read_row
from mlip.benchmark.suites.run import run_suites
from mlip.benchmark.suites.suite import suite_called
from mlip.benchmark.tables import Table
from mlip.data.build import build

OXIDES = "static/pbe_oxides_eos_fairchem.extxyz.gz"
INTRODUCTION = """# Suites of several potentials

By suites.py. Areas are compared with 258 layers of Materials Cloud (Quantum ESPRESSO, PBE; it publishes no energies)
and three of mech2d; curves are of BO2 oxides (Mehta, Salvador, Kitchin 2015). Potentials with fewer structures know
fewer elements.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data pack's folder")
    parser.add_argument("potentials", type=Path, nargs="+", help=".safetensors files; their names are the rows'")
    parser.add_argument("--parts", nargs="+", choices=("quick", "layers", "eos"), default=["quick", "layers", "eos"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", type=Path, help="a Markdown file")
    arguments = parser.parse_args()

    allowed = {"allow_functional_mismatch": True, "progress": False}
    quick, layers, curves = [], [], []
    for path in arguments.potentials:
        out = arguments.out / path.stem
        if "quick" in arguments.parts:
            run_suites("all", path, out, quick=True, progress=False)
            quick.append(read_row(out / "suites.json"))
        if "layers" in arguments.parts:
            store = layer_store(arguments.data, arguments.out)
            layers.append(run_suites("low-dimensional", path, out / "layers", data=[store], **allowed).row)
        if "eos" in arguments.parts:
            curves.append(run_eos_benchmark(path, arguments.data / OXIDES, out / "oxides", **allowed).table())
    sections = [INTRODUCTION]
    if quick:
        sections += ["## `mlip benchmark suite all --quick`\n", beside(quick, NAMES).to_markdown()]
    if layers:
        sections += ["## Layers, by ml-peg's protocol\n", beside(layers, ("low-dimensional",)).to_markdown()]
    if curves:
        rows = tuple(row for table in curves for row in table.rows)
        merged = Table("eos", "Curves of 30 oxides", curves[0].columns, rows, curves[0].notes)
        sections += ["## Equations of state of oxides\n", merged.to_markdown()]
    text = "\n".join(sections)
    print(text)
    if arguments.report:
        arguments.report.write_text(text)


def layer_store(data: Path, out: Path) -> Path:
    path = out / "layers.h5"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        write(path.with_suffix(".extxyz"), structures("layers", data))
        build([path.with_suffix(".extxyz")], path)
    return path


def beside(rows: list[dict], names: tuple[str, ...]) -> Table:
    """The first row's table with the others beside."""
    return comparison(rows[0], rows[1:], {name: suite_called(name) for name in names})


if __name__ == "__main__":
    main()
