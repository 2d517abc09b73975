"""Many structures, each evaluated once: with a calculator of its own, by `predict([atoms])`, by `relax([atoms])`.

    python benchmarks/many_structures.py --potential m3gnet.safetensors --data alexandria-random-1k.extxyz.gz
    python benchmarks/many_structures.py --data alexandria-random-1k.extxyz.gz \\
        --potential m3gnet.safetensors --peer matgl peers/matgl/bin/python .../M3GNet-MP-2021.2.8-PES \\
        --potential mace.safetensors --peer mace_torch peers/mace_torch/bin/python .../mace_L0_residual_config.json \\
        --out benchmarks/results/many_structures.md

What job functions and high-throughput workflows do. Structures are the crystals of the file that all potentials know,
a quarter of them repeated along a so that 2 to 200 atoms occur, in random order; without a file they are cubic crystals
built by ASE. Each way runs in a process of its own, and has its number of programs and memory maps counted, its memory
measured when a tenth of the structures are done and at the end, and its time. A peer's calculators are new for each
structure, too; the first peer stands beside the first potential, the second beside the second. The numbers go beside
the table as JSON.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from side_by_side import SIDES, Side, machine, pin

import mlip
from mlip import programs

WAYS = ("calculator", "calculator, freed memory kept", "predict", "relax")
DTYPES = ("float32", "float64")
SCRIPTS = {"matgl": "matgl_side.py", "mace_torch": "mace_torch_side.py"}
COLUMNS = ("who", "way", "dtype", "seconds", "programs", "most_maps", "mb_at_a_tenth", "mb_at_the_end")


def crystals(path: Path | None, elements: set[str], n: int, most_atoms: int) -> list[Atoms]:
    """n structures of 2 to `most_atoms` atoms, in random order."""
    rng = random.Random(0)
    found = [_bare(atoms) for atoms in ase.io.read(path, ":")] if path else _built()
    found = [atoms for atoms in found if elements.issuperset(atoms.get_chemical_symbols()) and len(atoms) <= most_atoms]
    chosen = []
    while len(chosen) < n:
        atoms = found[len(chosen) % len(found)]
        repeats = rng.randint(1, most_atoms // len(atoms)) if len(chosen) % 4 == 3 else 1
        chosen.append(atoms * (max(repeats, -(-2 // len(atoms))), 1, 1))
    rng.shuffle(chosen)
    return chosen


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _built() -> list[Atoms]:
    lattices = (("Al", "fcc", 4.05), ("Fe", "bcc", 2.87), ("Si", "diamond", 5.43), ("NaCl", "rocksalt", 5.64))
    return [bulk(name, kind, a=scale * a) for name, kind, a in lattices for scale in (0.95, 1.0, 1.05, 1.1)]


def evaluate(way: str, potential: Any, atoms: Atoms, dtype: str) -> None:
    if way == "predict":
        potential.predict([atoms], dtype)
    elif way == "relax":
        mlip.relax([atoms], potential, steps=2, dtype=dtype, progress=False)
    else:
        atoms = atoms.copy()  # which goes with its calculator, as in a job
        atoms.calc = mlip.MLIPCalculator(potential, dtype)
        atoms.get_potential_energy()
        atoms.get_forces()


def run(potential: Path, structures: Path, way: str, dtype: str) -> dict[str, Any]:
    """One way through all structures of the file, in this process."""
    if way.endswith("kept"):
        mlip.keep_freed_memory()
    loaded, early = mlip.load(potential), None
    every = ase.io.read(structures, ":")
    started = time.perf_counter()
    most_maps = 0
    for k, atoms in enumerate(every, start=1):
        evaluate(way, loaded, atoms, dtype)
        if k % max(1, len(every) // 10) == 0:
            most_maps = max(most_maps, maps())
            early = early or resident_mb()
    return {
        "way": way,
        "dtype": dtype,
        "seconds": round(time.perf_counter() - started, 1),
        "programs": len(programs.registry),
        "most_maps": most_maps,
        "mb_at_a_tenth": early,
        "mb_at_the_end": resident_mb(),
    }


def maps() -> int:
    with Path("/proc/self/maps").open("rb") as lines:
        return sum(1 for _ in lines)


def resident_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


def run_peer(peer: list[str], structures: Path, threads: int, folder: Path) -> dict[str, Any]:
    """The peer's calculators on the same list."""
    name, python, weights = peer
    if name == "mace_torch":  # writes its random weights beside its config
        weights = shutil.copy(weights, folder / "peer_config.json")
    command = [python, SIDES / SCRIPTS[name], weights, "--threads", threads]
    with Side(name, command, threads, folder / "peer.log") as side:
        check = side.ask(do="prepare", job="many", task="many", structures=str(structures), options={})["check"]
        return {"who": name, "way": "calculator", "dtype": "float32", "seconds": round(check["seconds"], 1)}


def as_table(rows: list[dict[str, Any]], told: str) -> str:
    lines = [told, "", f"| {' | '.join(name.replace('_', ' ') for name in COLUMNS)} |"]
    lines.append("|---|---|---|" + "---:|" * (len(COLUMNS) - 3))
    lines += [f"| {' | '.join(str(row.get(name, '')) for name in COLUMNS)} |" for row in rows]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", type=Path, action="append", required=True)
    parser.add_argument("--data", type=Path, help="structures as ASE reads them; without it they are built")
    parser.add_argument("--structures", type=int, default=1_000)
    parser.add_argument("--most-atoms", type=int, default=200)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peer", nargs=3, metavar=("NAME", "PYTHON", "WEIGHTS"), action="append", default=[])
    parser.add_argument("--out", type=Path, help="Markdown with the table; the JSON with all numbers goes beside it")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # structures, way, dtype: the work of a process
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.one:
        structures, way, dtype = options.one
        print(json.dumps(run(options.potential[0], Path(structures), way, dtype)))
        return
    for name, *_ in options.peer:
        if name not in SCRIPTS:
            sys.exit(f"--peer {name}: known are {', '.join(SCRIPTS)}")
    pin(options.threads)
    with tempfile.TemporaryDirectory() as name:
        structures = Path(name) / "structures.extxyz"
        elements = set.intersection(*(set(mlip.load(potential).elements) for potential in options.potential))
        every = crystals(options.data, elements, options.structures, options.most_atoms)
        ase.io.write(structures, every)
        sizes = np.array([len(atoms) for atoms in every])
        told = f"{len(every)} structures, {sizes.min()} to {sizes.max()} atoms, {sizes.mean():.0f} on average; "
        told += f"{options.threads} threads, {time.strftime('%Y-%m-%d')}"
        print(told)
        rows = []
        for potential, peer in itertools.zip_longest(options.potential, options.peer[: len(options.potential)]):
            for way, dtype in itertools.product(options.ways, options.dtypes):
                command = [sys.executable, __file__, "--potential", potential, "--one", structures, way, dtype]
                done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
                rows.append({"who": f"mlip, {potential.stem}", **json.loads(done.stdout.splitlines()[-1])})
                print(rows[-1], flush=True)
            if peer:
                rows.append(run_peer(peer, structures, options.threads, Path(name)))
                print(rows[-1], flush=True)
    print(as_table(rows, told))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        usage = __doc__.partition("What job")[2]
        options.out.write_text(f"# Many structures, one after another\n\nWhat job{usage}\n{as_table(rows, told)}\n")
        answer = {"machine": machine(), "structures": len(every), "rows": rows}
        options.out.with_suffix(".json").write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
