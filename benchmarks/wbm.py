"""Matbench Discovery's metrics of potentials on the 972 crystals of WBM in the data pack, and what all 256,963 cost.

    python benchmarks/wbm.py .../data m3gnet.safetensors [more.safetensors] --out runs/wbm \\
        --report benchmarks/results/wbm.md [--at-most 200]

The pack has crystals relaxed by DFT, with their energies and corrections, and neither initial structures nor distances
to the hull. So relaxations begin at DFT's structures, and of the metrics of stability there are the errors alone.
`--at-most` takes so many for the potentials after the first. A run that was killed goes on.
"""

import argparse
import platform
import resource
import sys
from pathlib import Path

import numpy as np
import spglib
from paper_structures import read_json

from mlip.benchmark.wbm.findings import Findings
from mlip.benchmark.wbm.geometry import SYMPRECS, space_group
from mlip.benchmark.wbm.run import WbmRun, run_wbm
from mlip.benchmark.wbm.tables import wbm_tables
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.data.schema import CORRECTION
from mlip.hull.mp2020 import mp2020_correction
from mlip.runtime import jax_facts

ALL_OF_WBM = 256_963
PUBLISHED = """## Published, on all 256,963 from their initial structures

models/m3gnet/m3gnet.yml of janosh/matbench-discovery, M3GNet (its own TensorFlow code): MAE 0.072, RMSE 0.115 eV/atom,
R² 0.588, F1 0.576, DAF 2.647, precision 0.454, recall 0.788, accuracy 0.802, 355 predictions missing. Not to be
compared with the rows above, which begin at DFT's structures. Its published RMSD of 0.0217 is of
before unmatched structures counted.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data pack's folder")
    parser.add_argument("potentials", type=Path, nargs="+", help=".safetensors files; their names are the rows'")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at-most", type=int, help="materials of the potentials after the first")
    parser.add_argument("--part-size", type=int, default=500)
    parser.add_argument("--report", type=Path, help="a Markdown file")
    arguments = parser.parse_args()

    store = store_of_pack(arguments.data, arguments.out)
    runs = []
    for k, potential in enumerate(arguments.potentials):
        run = run_wbm(
            potential,
            store,
            arguments.out / potential.stem,
            start="last",
            part_size=arguments.part_size,
            at_most=arguments.at_most if k else None,
            allow_functional_mismatch=True,
            progress=False,
        )
        runs.append(run)
    text = "\n".join([introduction(store), *(table.to_markdown() for table in wbm_tables(runs)), cost(runs), PUBLISHED])
    print(text)
    if arguments.report:
        arguments.report.write_text(text)


def store_of_pack(data: Path, out: Path) -> Path:
    """A store of the pack's crystals with the labels that it has."""
    path = out / "wbm.h5"
    if not path.exists():
        with StoreWriter(path) as writer:
            for record in read_json(data / "hull" / "wbm_random_equilibrium.json.gz"):
                writer.add(trajectory(record), "test")
    return path


def trajectory(record: dict) -> Trajectory:
    from ase import Atoms

    atoms = Atoms(record["species"], scaled_positions=record["frac_coords"], cell=record["lattice"], pbc=True)
    frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, record["energy"])
    labels = {
        "e_form": record["corrected_formation_energy_per_atom"],
        CORRECTION: record["corrected_energy"] - record["energy"],
    }
    return Trajectory(record["material_id"], [frame], "PBE", 3, labels)


def introduction(path: Path) -> str:
    with Store(path) as store:
        pairs = [(store.relaxed_frame(material), material.properties[CORRECTION]) for material in store.materials()]
    off = [abs(mp2020_correction(frame) - stated) / len(frame) for frame, stated in pairs]
    n_corrected = sum(abs(stated) > 0 for _, stated in pairs)
    versions = ", ".join(f"{name} {version}" for name, version in jax_facts().items() if version)
    return f"""# Matbench Discovery on 972 crystals of WBM

By wbm.py, on {platform.processor() or platform.machine()}, python {platform.python_version()}, {versions}, spglib
{spglib.__version__}. The pack has neither initial structures nor distances to the hull: relaxations begin at DFT's
structures (fmax 0.05 eV/Å, at most 500 steps, float32), and of the metrics of stability there are errors alone.

Corrections: those that we compute (pymatgen's MP2020) for DFT's structures are the published ones of all {len(pairs)}
materials, {n_corrected} of them not 0, to {1e3 * max(off):.4f} meV/atom.

{moyopy_note(pairs)}"""


def moyopy_note(pairs: list) -> str:
    """How often spglib and moyopy agree, where moyopy is installed."""
    try:
        import moyopy
    except ImportError:
        return ""
    lines = []
    for name, symprec in SYMPRECS.items():
        same = 0
        for frame, _ in pairs:
            fractions = frame.positions @ np.linalg.inv(frame.cell)
            cell = moyopy.Cell(
                basis=frame.cell.tolist(), positions=fractions.tolist(), numbers=[int(z) for z in frame.numbers]
            )
            try:
                theirs = moyopy.MoyoDataset(cell, symprec=symprec)
                same += space_group(frame, symprec) == (theirs.number, theirs.operations.num_operations)
            except BaseException as error:  # moyopy's panics are no Exceptions
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
        lines.append(f"{same} of {len(pairs)} within {name} Å")
    return (
        f"Symmetry of DFT's structures: spglib {spglib.__version__} and moyopy {moyopy.__version__}, which the "
        f"publishers take, find the same number and operations for {' and '.join(lines)}.\n"
    )


def cost(runs: list[WbmRun]) -> str:
    """Seconds and memory, and what they come to on all of WBM."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    lines = [
        "## Cost\n",
        "| potential | relaxing | comparing | all of WBM | files of all of WBM |",
        "|---|---:|---:|---:|---:|",
    ]
    for run in runs:
        each = {name: value / len(run.findings) for name, value in run.seconds.items()}
        hours = sum(each.values()) * ALL_OF_WBM / 3600
        size = sum(path.stat().st_size for path in run.files) / len(run.findings) * ALL_OF_WBM / 1e6
        seconds = f"{each['relaxing']:.3f} s | {1e3 * each['comparing']:.1f} ms"
        lines.append(f"| {run.name} | {seconds} | {hours:.0f} h | {size:.0f} MB |")
    lines += [
        f"\nSeconds a material, on a machine that others used too. Peak memory of this process: {peak:.0f} MB; it "
        f"holds a part, and of all materials {_bytes_of(runs[0].findings):.0f} bytes each.\n"
    ]
    return "\n".join(lines)


def _bytes_of(findings: Findings) -> float:
    arrays = [*findings.columns.values(), findings.rmsd, *findings.changes.values()]
    return sum(array.nbytes for array in arrays) / len(findings)


if __name__ == "__main__":
    main()
