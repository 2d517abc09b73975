"""A round of screening of a million candidates on this machine: time, candidates a second, memory, distances.

    python benchmarks/screening.py ../shared --out runs/screening [--potential PATH] [--report results/screening.md]

Seven textbook prototypes with 83 elements are 1,119,587 candidates. The network is a small CGAT that this script
trains on 478 labeled phases of ALEXANDRIA and OQMD (element vectors of matscholar, so that elements without a label
have some, too): the distances show the machinery at work, not which crystals are stable. The round itself is `mlip
screen`, in a process of its own, killed once on its way; with a potential the 100 best are relaxed. At last, how fast
candidates are enumerated from the number 10^10 on. Goals: less than 10 minutes on two cores, memory that does not
grow with the candidates.
"""

import argparse
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers
from side_by_side import machine

from mlip.data import Frame, StoreWriter, Trajectory
from mlip.screening.assignments import Assignments, distinct_orders
from mlip.screening.screening_recipe import ELEMENTS
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe

RECIPES = Path(__file__).parent.parent / "recipes"
FACE_CENTERED = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
OXYGENS = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
QUARTERS = [[0.25] * 3, [0.75] * 3]
PROTOTYPES = {
    "rocksalt": bulk("NaCl", "rocksalt", a=5.6),
    "cesiumchloride": bulk("CsCl", "cesiumchloride", a=4.1),
    "zincblende": bulk("ZnS", "zincblende", a=5.4),
    "fluorite": bulk("CaF2", "fluorite", a=5.5),
    "half-heusler": Atoms(
        "LiAlSi", scaled_positions=[[0] * 3, [0.25] * 3, [0.5] * 3], cell=3 * FACE_CENTERED, pbc=True
    ),
    "heusler": Atoms("Cu2MnAl", scaled_positions=[*QUARTERS, [0] * 3, [0.5] * 3], cell=3 * FACE_CENTERED, pbc=True),
    "perovskite": Atoms("SrTiO3", scaled_positions=[[0] * 3, [0.5] * 3, *OXYGENS], cell=3.9 * np.eye(3), pbc=True),
}
NETWORK = (
    "model.features=32",
    "model.shell_features=32",
    "model.heads=2",
    "model.n_steps=2",
    "model.composition_steps=2",
    "model.output_widths=[64,32]",
    "model.element_vectors=fixed",
    "train.epochs=30",
    "train.batch_size=64",
    "train.accumulate=1",
    "train.learning_rate=0.002",
    "train.schedule.period=30",
    "data.workers=0",
)
FAR = 10**10


def labeled_phases(shared: Path) -> Iterator[tuple[str, Frame, float]]:
    """Id, structure and distance to the hull in eV/atom."""

    def read(name: str) -> list[dict[str, Any]]:
        return json.loads(gzip.decompress((shared / "data" / "hull" / name).read_bytes()))

    def frame(numbers: list[int], fractional: list, cell: list) -> Frame:
        return Frame(
            np.array(numbers, np.int16), np.array(fractional) @ np.array(cell), np.array(cell), np.ones(3, bool)
        )

    for record in read("alexandria_structures_with_hull_labels.json.gz"):
        numbers = [atomic_numbers[symbol] for symbol in record["species"]]
        yield record["mat_id"], frame(numbers, record["frac_coords"], record["lattice"]), record["e_above_hull_pbe"]
    for record in read("oqmd_devset.json.gz"):
        structure = frame(record["atomic_numbers"], record["frac_coords"], record["cell"])
        yield f"oqmd-{record['entry_id']}", structure, max(record["stability"], 0.0)


def trained_network(shared: Path, out: Path) -> Path:
    """Trained on nine of ten phases, or what an earlier call has trained."""
    exported = out / "network" / "model.safetensors"
    if not exported.exists():
        rng = np.random.default_rng(0)
        with StoreWriter(out / "phases.h5") as store:
            for name, frame, distance in labeled_phases(shared):
                phase = Trajectory(name, [frame], "PBE", 3, {"e_above_hull": distance})
                store.add(phase, "train" if rng.random() < 0.9 else "val")
        vectors = shared / "goldens" / "embeddings" / "matscholar-embedding.json"
        files = (f"data.store={out / 'phases.h5'}", f"property.element_vectors={vectors}", f"out={out / 'network'}")
        train(load_recipe(RECIPES / "cgat-hull.yaml", [*NETWORK, *files]), resume=exported.parent.exists())
    return exported


def round_command(model: Path, potential: Path | None, out: Path) -> list[str]:
    folder = out / "prototypes"
    folder.mkdir(exist_ok=True)
    for name, crystal in PROTOTYPES.items():
        ase.io.write(folder / f"{name}.cif", crystal)
    command = [sys.executable, "-m", "mlip.cli", "screen", str(RECIPES / "screening" / "ternaries.yaml"), "--json"]
    values = [f"model={model}", f"prototypes.source={folder}", "elements.exclude=[]", f"out={out / 'round'}"]
    values += ["keep.below=0.05", "keep.at_most=100"]
    return command + values + ["relax=null" if potential is None else f"relax.potential={potential}"]


def run_killed_once(command: list[str], state: Path) -> dict[str, Any]:
    """The summary of the round, which dies by signal 9 after its first checkpoint and is started again."""
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while first.poll() is None and not state.exists():
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def enumeration_from(first: int, n: int = 1_000_000) -> dict[str, float]:
    """Seconds and growth of memory while n candidates of a prototype of six sites are unranked."""
    numbers = np.array(sorted(atomic_numbers[symbol] for symbol in ELEMENTS))
    assignments = Assignments(numbers, distinct_orders(np.arange(6)[None]))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    for block in range(first, first + n, 8192):
        assignments.numbers(np.arange(block, min(block + 8192, first + n)))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    seconds = time.perf_counter() - start
    return {"of": len(assignments), "seconds": round(seconds, 2), "per_second": round(n / seconds), "grown_kb": grown}


REPORT = """# A round of screening: {candidates:,} candidates

{machine[date]}, {machine[processor]}, {machine[cores]} cores (load at start {machine[load_average_at_start]}),
`benchmarks/screening.py`. {prototypes} prototypes x {elements} elements; a small CGAT, trained on 478 phases:
its distances show the machinery at work, not which crystals are stable.

| | |
| --- | ---: |
| candidates | {candidates:,} |
| seconds of predicting | {seconds} |
| candidates a second | {per_second:,.0f} |
| below 0.05 eV/atom | {below_cutoff:,} |
| kept (best of a composition, at most 100) | {kept} |
| relaxed | {relaxed} |
| wall time, compilation, one kill -9, relaxation and files included, s | {wall_seconds} |
| peak memory, MB | {peak_memory_mb:,} |
| enumerated a second, from 10^10 of {enumeration[of]:,} on | {enumeration[per_second]:,} |
| memory grown meanwhile, kB | {enumeration[grown_kb]} |

![Predicted distances to the hull]({figure})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="the folder of goldens and data")
    parser.add_argument("--out", type=Path, required=True, help="folder for the network and the round")
    parser.add_argument("--potential", type=Path, help="relaxes the 100 best")
    parser.add_argument("--report", type=Path, help="a Markdown file; the histogram goes beside it")
    arguments = parser.parse_args()
    where, out = machine(), arguments.out
    out.mkdir(parents=True, exist_ok=True)
    model = trained_network(arguments.shared, out)
    shutil.rmtree(out / "round", ignore_errors=True)
    command = round_command(model, arguments.potential, out)
    start = time.perf_counter()
    summary = run_killed_once(command, out / "round" / "round.npz")
    summary |= {"wall_seconds": round(time.perf_counter() - start), "enumeration": enumeration_from(FAR)}
    print(json.dumps(summary, indent=1))
    if arguments.report:
        figure = arguments.report.with_suffix(".png")
        shutil.copy(out / "round" / "histogram.png", figure)
        relaxed = ", ".join(f"{n} {reason}" for reason, n in summary["relaxations"].items()) or "none"
        arguments.report.write_text(REPORT.format(machine=where, figure=figure.name, relaxed=relaxed, **summary))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
