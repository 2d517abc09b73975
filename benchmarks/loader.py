"""How fast the loader turns a store into packed batches, how much of them is padding, and what memory it takes.

    python benchmarks/loader.py [--data alexandria-random-1k.extxyz.gz] [--out benchmarks/results/loader.json]

Crystals are ALEXANDRIA's where the file is given, each several times with displaced atoms; otherwise random ones
of like sizes. Goal: 8,000 frames/s on 2 cores at 5 A, less than 10 % padding.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
from ase import Atoms
from ase.io import iread

from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.graph.loader import GraphBuilder, TrainingLoader

CUTOFF = 5.0
BATCH_SIZE = 128


def crystals(data: Path | None) -> list[Atoms]:
    if data is not None:
        return list(iread(data, index=":"))
    rng = np.random.default_rng(0)
    sizes = np.clip(rng.lognormal(1.75, 0.75, 1000), 1, 80).astype(int)
    return [
        Atoms(
            rng.integers(1, 90, n),
            scaled_positions=rng.random((n, 3)),
            cell=np.eye(3) * (18.0 * n) ** (1 / 3),
            pbc=True,
        )
        for n in sizes
    ]


def write_store(path: Path, structures: list[Atoms], n_frames: int) -> Store:
    rng = np.random.default_rng(1)
    with StoreWriter(path) as writer:
        for k in range(n_frames):
            atoms = structures[k % len(structures)]
            frame = Frame(
                atoms.numbers.astype(np.int16),
                atoms.positions + rng.normal(scale=0.02, size=(len(atoms), 3)),
                atoms.cell[:],
                atoms.pbc,
                energy=rng.normal(),
                forces=rng.normal(size=(len(atoms), 3)),
                stress=rng.normal(size=6),
            )
            writer.add(Trajectory(f"frame{k:07d}", [frame], "PBE", 3), "train")
    return Store(path)


def resident_mb() -> float:
    """Of this process, without its workers."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def rates(loader: TrainingLoader, rounds: int, seconds: float) -> Iterator[float]:
    """Frames/s of each round, timed over whole batches."""
    for _ in range(rounds):
        start, n_frames = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds:
            n_frames += next(loader)[1].n_graphs
        yield n_frames / elapsed


def measure(store: Store, n_workers: int, rounds: int, seconds: float) -> dict:
    start = time.perf_counter()
    build_graph = GraphBuilder(store, CUTOFF, np.zeros(119))
    loader = TrainingLoader(build_graph, store.indices(), batch_size=BATCH_SIZE, n_workers=n_workers)
    ready = time.perf_counter()
    for _ in islice(loader, 64):  # threads or processes are up, buffers full
        pass
    before = resident_mb()
    measured = list(rates(loader, rounds, seconds))
    result = {
        "workers": n_workers,
        "frames_per_s": round(median(measured)),
        "frames_per_s_of_each_round": [round(rate) for rate in measured],
        "seconds_to_open": round(ready - start, 2),
        "padded_nodes": round(loader.padded_fraction.nodes, 4),
        "padded_edges": round(loader.padded_fraction.edges, 4),
        "shapes": len(loader.shapes),
        "edges_per_frame": round(float(loader.sizes[:, 1].mean()), 1),
        "atoms_per_frame": round(float(loader.sizes[:, 0].mean()), 2),
        "resident_mb": round(resident_mb()),
        "resident_growth_mb": round(resident_mb() - before),
    }
    loader.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="any file of crystals that ase.io reads")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store.h5", crystals(options.data), options.frames)
        report = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load_average_at_start": round(os.getloadavg()[0], 2),
            "versions": {name: version(name) for name in ("alexandria-mlip", "grain", "vesin", "h5py", "numpy")},
            "crystals": options.data.name if options.data else "random",
            "frames_in_store": options.frames,
            "cutoff": CUTOFF,
            "batch_size": BATCH_SIZE,
            "results": [measure(store, n, options.rounds, options.seconds) for n in options.workers],
        }
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
