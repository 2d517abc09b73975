"""The paper's relaxation tables for published potentials, on the DFT-relaxed structures of the data pack, in one go.

Tables 3, 4 and 6 of "Improving machine-learning models in materials science through large datasets" (protocol in
mlip/benchmark/relaxation.py) on what there is of open data instead of the paper's test sets:

    mlip convert .../goldens/m3gnet M3GNet.safetensors
    mlip convert .../goldens/m3gnet_alexandria_2d M3GNet-2D.safetensors
    python benchmarks/paper_protocol.py .../data M3GNet.safetensors M3GNet-2D.safetensors --out runs/paper

Sets: alexandria-random-1k and WBM (crystals), layers (Materials Cloud's 2D structures, relaxed with Quantum ESPRESSO's
PBE and without energies, and three of mech2d), paths of DFT relaxations from their last and from their first step,
PBEsol's, and chains built by hand with experimental lengths. A run that was killed goes on; what is done is not redone.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.io import write
from paper_structures import CHAINS, structures

from mlip.benchmark.paper_tables import energy_table, pbesol_table, volume_table
from mlip.benchmark.relaxation import run_relaxation_benchmark
from mlip.benchmark.results import PotentialResults, load_results
from mlip.benchmark.tables import Table
from mlip.data.build import build

INTRODUCTION = """# The paper's relaxation tables on open data

By paper_protocol.py. Where a potential is of another functional than a set, its errors are the functionals' too.
Seconds are of the machine as it was, busy with other work or not.
"""


class Part(NamedTuple):
    """A set of materials and how they are relaxed."""

    title: str
    store: str
    """Of `SETS`."""
    settings: dict
    """Of `run_relaxation_benchmark`."""


PARTS = {
    "alexandria-random-1k": Part("1000 crystals of ALEXANDRIA", "alexandria-random-1k", {}),
    "layers": Part("Layers: 258 of Materials Cloud's, 3 of mech2d", "layers", {}),
    "chains": Part("Chains built by hand", "chains", {}),
    "paths-last": Part("DFT relaxations, from their last step", "paths", {}),
    "paths-first": Part("DFT relaxations, from their first step", "paths", {"start": "first"}),
    "pbesol-paths": Part(
        "PBEsol relaxations (protocol of Table 6)",
        "pbesol-paths",
        {"start": "first", "symmetry": True, "fmax": 0.01},
    ),
    "wbm": Part("972 crystals of WBM", "wbm", {}),
}


def store_of(name: str, data: Path, out: Path) -> Path:
    """The store of a set, built when it is not there."""
    path = out / "stores" / f"{name}.h5"
    if not path.exists():
        source = path.with_suffix(".extxyz")
        source.parent.mkdir(parents=True, exist_ok=True)
        write(source, structures(name, data))
        build([source], path)
    return path


def tables_of(name: str, results: list[PotentialResults]) -> list[Table]:
    """The paper's rows stand beside those that keep to its protocol."""
    match name:
        case "chains":
            return [chains_table(results)]
        case "pbesol-paths":
            return [pbesol_table(results)]
    with_paper = not PARTS[name].settings
    return [volume_table(results, with_paper), energy_table(results, with_paper)]


def chains_table(results: list[PotentialResults]) -> Table:
    """Relaxed repeats and why relaxations ended: the chains have no DFT to be compared with."""
    ended = {(p.name, record["id"]): record for p in results for record in p.records}

    def cell(potential: str, chain: str) -> str:
        record = ended[potential, f"chain-{chain}"]
        length = "-" if record["volume"] is None else f"{np.linalg.norm(record['cell'][0]):.3f}"
        return length if record["converged"] else f"{length} ({record['reason']})"

    names = [potential.name for potential in results]
    return Table(
        "chains",
        "Repeat of relaxed chains, Å",
        ("chain", "experiment (in its crystal)", *names),
        tuple((c.name, f"{c.repeat:.3f}", *(cell(name, c.name) for name in names)) for c in CHAINS),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data pack's folder")
    parser.add_argument("potentials", type=Path, nargs="+", help=".safetensors files; their names are the rows'")
    parser.add_argument("--out", type=Path, required=True, help="folder for stores and results.jsonl")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--report", type=Path, help="a Markdown file")
    arguments = parser.parse_args()

    sections = []
    for name in arguments.parts:
        part = PARTS[name]
        store = store_of(part.store, arguments.data, arguments.out)
        for potential in arguments.potentials:
            run = run_relaxation_benchmark(
                potential,
                store,
                arguments.out / name / potential.stem,
                split="all",
                allow_functional_mismatch=True,  # on purpose: the tables say so
                **part.settings,
            )
            print(name, potential.stem, *run.describe(), sep="\n", flush=True)
        results = load_results([str(arguments.out / name / potential.stem) for potential in arguments.potentials])
        tables = "\n".join(table.to_markdown() for table in tables_of(name, results))
        sections.append(f"## {part.title}\n\n{tables}")
        print(tables, flush=True)
        if arguments.report:
            arguments.report.write_text("\n".join([INTRODUCTION, *sections]))


if __name__ == "__main__":
    main()
