"""Matbench Discovery's metrics of potentials on the 972 crystals of WBM in the data pack, and what all 256,963 cost.

    python benchmarks/wbm.py .../data m3gnet.safetensors [more.safetensors] --out runs/wbm \\
        --report benchmarks/results/wbm.md [--at-most 200]

The pack has crystals relaxed by DFT, with their energies and corrections, and neither initial structures nor distances
to the hull. So relaxations begin at DFT's structures, and of the metrics of stability there are the errors alone.
`--at-most` takes so many for the potentials after the first. A run that was killed goes on.
"""

import argparse
import gzip
import json
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import spglib
from paper_structures import read_json

from mlip.benchmark.wbm.findings import Findings
from mlip.benchmark.wbm.geometry import SYMPRECS, space_group
from mlip.benchmark.wbm.parts import rows_of
from mlip.benchmark.wbm.run import WbmRun, run_wbm, write_submission
from mlip.benchmark.wbm.tables import wbm_tables
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.data.schema import CORRECTION
from mlip.data.structures import to_pymatgen
from mlip.data.wbm_files import build_wbm_store
from mlip.hull.mp2020 import mp2020_correction
from mlip.runtime import jax_facts

ALL_OF_WBM = 256_963
PUBLISHED = """## Published, on all 256,963 from their initial structures

models/m3gnet/m3gnet.yml of janosh/matbench-discovery, M3GNet (its own TensorFlow code): MAE 0.072, RMSE 0.115 eV/atom,
R² 0.588, F1 0.576, DAF 2.647, precision 0.454, recall 0.788, accuracy 0.802, 355 predictions missing. The rows above
begin at DFT's structures and are not comparable. The published RMSD of 0.0217 leaves out pairs that do not match; ours
count as 1.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data pack's folder")
    parser.add_argument("potentials", type=Path, nargs="+", help=".safetensors files; their names are the rows'")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at-most", type=int, help="materials of the potentials after the first")
    parser.add_argument("--part-size", type=int, default=500)
    parser.add_argument("--full-size", action="store_true", help="measure reading and gathering 256,963 materials")
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
    sections = [introduction(store), *(table.to_markdown() for table in wbm_tables(runs)), cost(runs)]
    if arguments.full_size:
        sections.append(at_full_size(runs[0], arguments.out / arguments.potentials[0].stem, arguments.out))
    text = "\n".join([*sections, PUBLISHED])
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
    n_off = sum(difference > 1e-6 for difference in off)
    n_corrected = sum(abs(stated) > 0 for _, stated in pairs)
    versions = ", ".join(f"{name} {version}" for name, version in jax_facts().items() if version)
    return f"""# Matbench Discovery on 972 crystals of WBM

By wbm.py, on {platform.processor() or platform.machine()}, python {platform.python_version()}, {versions}, spglib
{spglib.__version__}. The pack has neither initial structures nor distances to the hull: relaxations begin at DFT's
structures (fmax 0.05 eV/Å, at most 500 steps, float32), and of the metrics of stability there are errors alone.

Corrections computed for DFT's structures (pymatgen's MP2020) equal the published ones of {len(pairs) - n_off} of
{len(pairs)} materials, {n_corrected} of which have one. {n_off} differ, by up to {1e3 * max(off):.1f} meV/atom:
compounds of copper and silicon, whose electronegativities are equal, so that pymatgen's version decides which is the
anion.

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
    """Seconds of each potential, and what they come to on all of WBM."""
    lines = ["## Cost\n", "| potential | relaxing | comparing | all of WBM |", "|---|---:|---:|---:|"]
    for run in runs:
        each = {name: value / len(run.findings) for name, value in run.seconds.items()}
        hours = sum(each.values()) * ALL_OF_WBM / 3600
        seconds = f"{each['relaxing']:.3f} s | {1e3 * each['comparing']:.1f} ms"
        lines.append(f"| {run.name} | {seconds} | {hours:.0f} h |")
    return "\n".join([*lines, "\nSeconds a material, on two cores that others used too.\n"])


def at_full_size(run: WbmRun, folder: Path, out: Path) -> str:
    """Reading all of WBM, and gathering its parts, as if the run's materials were so many."""
    n_built = 20 * len(run.findings)
    publishers = out / "published"
    write_published(publishers, out / "wbm.h5", n_built)
    seconds, build_memory = measured(build_wbm_store, publishers, out / "published.h5")
    parts = sorted(path for path in (folder / "parts").iterdir())
    n_parts = -(-ALL_OF_WBM * len(parts) // len(run.findings))
    places = [parts[k % len(parts)] for k in range(n_parts)]
    n = len(run.findings) * n_parts / len(parts)
    gathering, memory = measured(gather, places, run, out / "gathered")
    size = sum(path.stat().st_size for path in (out / "gathered").iterdir()) / 1e6
    minutes = seconds / n_built * ALL_OF_WBM / 60
    return (
        "## At the size of WBM\n\n"
        f"A store of {n_built:,} materials is made of the publishers' files in {seconds:.0f} s, with a peak of "
        f"{build_memory:.0f} MB; all of WBM take {minutes:.0f} minutes. The parts of {n:,.0f} materials, those above "
        f"repeated, are gathered, judged and written in {gathering:.0f} s, with a peak of {memory:.0f} MB; the "
        f"submission is {size:.0f} MB.\n"
    )


def measured(function: Callable, *arguments: Any) -> tuple[float, float]:
    """Seconds and peak memory, MB, of a process that does this alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_timed, function, arguments).result()


def _timed(function: Callable, arguments: tuple) -> tuple[float, float]:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gather(places: list[Path], run: WbmRun, out: Path) -> None:
    """Metrics and files of these parts."""
    out.mkdir(parents=True, exist_ok=True)
    write_submission(out, places, "model", run.name, run.protocol, Findings.of(rows_of(places)), "2026-01-01")


def write_published(folder: Path, store_path: Path, n: int) -> None:
    """Files as the publishers', of a store's materials repeated, expanded by 2 % where a relaxation would begin."""
    folder.mkdir(parents=True, exist_ok=True)
    with Store(store_path) as store, ExitStack() as stack:
        names = ("init-structs.jsonl.gz", "computed-structure-entries.jsonl.gz", "summary.csv.gz")
        initial, entries, summary = (
            stack.enter_context(gzip.open(folder / f"2026-wbm-{name}", "wt", compresslevel=1)) for name in names
        )
        columns = ("e_form_per_atom_mp2020_corrected", "e_above_hull_mp2020_corrected_ppd_mp")
        print("material_id", *columns, "e_correction_per_atom_mp2020", "unique_prototype", sep=",", file=summary)
        materials = list(store.materials())
        lines = []
        for material in materials:
            frame = store.relaxed_frame(material)
            relaxed, expanded = to_pymatgen(frame), to_pymatgen(frame)
            expanded.scale_lattice(1.06 * relaxed.volume)
            lines.append((json.dumps(expanded.as_dict()), json.dumps(relaxed.as_dict()), frame.energy))
        for k in range(n):
            before, after, energy = lines[k % len(lines)]
            name = f'{{"material_id": "wbm-{k}"'
            print(f'{name}, "initial_structure": {before}}}', file=initial)
            entry = f'{{"energy": {energy}, "structure": {after}}}'
            print(f'{name}, "computed_structure_entry": {entry}}}', file=entries)
            labels = materials[k % len(materials)].properties
            correction = labels[CORRECTION] / len(store.relaxed_frame(materials[k % len(materials)]))
            print(f"wbm-{k}", labels["e_form"], 0.1, correction, True, sep=",", file=summary)


if __name__ == "__main__":
    main()
