"""How fast the loader turns a store into packed batches, how much of them is padding, and what memory it takes.

    python benchmarks/loader.py [--data alexandria-random-1k.extxyz.gz] [--out benchmarks/results/loader.json]

Crystals are ALEXANDRIA's where the file is given, each several times with displaced atoms; otherwise random ones
of like sizes. Goal: 8,000 frames/s on 2 cores at 5 A, less than 10 % padding. Then, on one core: what single frames
cost of a store that is kept in memory; what shuffling in blocks of neighbors saves of one too large for that, out of
the file cache; and what neighbor lists would cost that are read from the store instead of computed.
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

import h5py
import numpy as np
from ase import Atoms
from ase.io import iread

from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.data import store as store_module
from mlip.data.writer import CHUNK_BYTES, FILTERS
from mlip.graph.labeled_graphs import EnergyLabels, LabeledGraphs
from mlip.graph.loader import TrainingLoader
from mlip.graph.order import EpochOrder, Source
from mlip.graph.radius_graph import RadiusGraph
from mlip.graph.small_crystals import small_crystal_neighbors
from mlip.graph.stacked_structures import STRUCTURE_COLUMNS, Structures
from mlip.graph.window import WINDOW

CUTOFF = 5.0
BLOCK = 16
"""Frames that stay together: for stores far larger than memory. The default of recipes is 1."""
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


def measure(store: Store, n_workers: int, block: int, rounds: int, seconds: float) -> dict:
    """The loader as training uses it."""
    start = time.perf_counter()
    builder = LabeledGraphs(store, RadiusGraph(CUTOFF), EnergyLabels(np.zeros(119)))
    loader = TrainingLoader(builder, store.indices(), batch_size=BATCH_SIZE, block=block, n_workers=n_workers)
    ready = time.perf_counter()
    for _ in islice(loader, 64):  # threads or processes are up, buffers full
        pass
    before = resident_mb()
    measured = list(rates(loader, rounds, seconds))
    result = {
        "workers": n_workers,
        "block": block,
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


def reopened(store: Store, kept_bytes: int) -> Store:
    """The store as one that is kept in memory up to so many bytes; the one given is closed."""
    store.close()
    store_module.KEPT_BYTES = kept_bytes
    return Store(store.path)


def drop_from_cache(store: Store) -> None:
    """What the system keeps of the file in memory."""
    descriptor = os.open(store.path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def microseconds_a_frame(work, windows: list[np.ndarray]) -> dict[str, float]:
    """Of this thread's processor and of the clock; each window once, the first two as a warm-up."""
    spent = []
    for window in windows:
        cpu, wall = time.thread_time(), time.perf_counter()
        work(window)
        spent.append(((time.thread_time() - cpu) / len(window), (time.perf_counter() - wall) / len(window)))
    cpu, wall = np.median(spent[2:], axis=0) * 1e6
    return {"cpu_us": round(float(cpu), 1), "wall_us": round(float(wall), 1)}


def windows_of(store: Store, block: int, first: int, rounds: int) -> list[np.ndarray]:
    order = EpochOrder([Source(store.indices(), 1.0)], seed=0, block=block)
    places = np.arange(WINDOW)
    return [
        order.frames(k * WINDOW // store.n_frames, (k * WINDOW + places) % store.n_frames)
        for k in range(first, first + rounds)
    ]


def measure_block(store: Store, block: int, rounds: int) -> dict:
    """A window's frames read, and made into graphs."""
    builder = LabeledGraphs(store, RadiusGraph(CUTOFF), EnergyLabels(np.zeros(119)))
    columns = ("frames/cell", "frames/energy", "frames/stress", "atoms/number", "atoms/position", "atoms/force")
    drop_from_cache(store)
    read = microseconds_a_frame(lambda window: store.gather(columns, window), windows_of(store, block, 0, rounds + 2))
    drop_from_cache(store)
    built = microseconds_a_frame(builder, windows_of(store, block, rounds + 2, rounds + 2))
    return {"block": block, "read": read, "read_and_built": built}


class ListsOnDisk:
    """Neighbor lists of a store's frames in HDF5: counts by atom, senders, shifts, filtered as the store is."""

    def __init__(self, path: Path, store: Store, n_frames: int):
        self.file = h5py.File(path, "w", libver=("v110", "v110"))
        counts, senders, shifts, self.offsets = [], [], [], [np.zeros(1, np.int64)]
        for start in range(0, n_frames, WINDOW):
            structures = _structures(store, np.arange(start, min(start + WINDOW, n_frames)))
            lists = small_crystal_neighbors(structures, CUTOFF)
            for neighbors, size in zip(lists, structures.sizes, strict=True):
                found = neighbors is not None
                counts.append(np.bincount(neighbors.receivers, minlength=size) if found else np.zeros(size))
                senders.append(neighbors.senders if found else np.zeros(0))
                shifts.append(neighbors.shifts if found else np.zeros((0, 3)))
        self.edges = np.cumsum([0, *map(len, senders)])
        self.atoms = np.cumsum([0, *map(len, counts)])
        columns = {"counts": (counts, "u2"), "senders": (senders, "u2"), "shifts": (shifts, "i1")}
        for name, (parts, dtype) in columns.items():
            values = np.concatenate(parts).astype(dtype)
            rows = max(1, CHUNK_BYTES // (values.itemsize * int(np.prod(values.shape[1:]))))
            self.file.create_dataset(name, data=values, chunks=(rows, *values.shape[1:]), **FILTERS)
        self.file.flush()
        self.n_frames, self.n_bytes = n_frames, path.stat().st_size

    def read(self, window: np.ndarray) -> None:
        """Lists of frames, some of them neighbors in the store: as `Store.gather` does, a read a run."""
        window = np.sort(window)
        for run in np.split(window, np.flatnonzero(np.diff(window) > 1) + 1):
            atoms = slice(self.atoms[run[0]], self.atoms[run[-1] + 1])
            edges = slice(self.edges[run[0]], self.edges[run[-1] + 1])
            counts = self.file["counts"][atoms]
            np.repeat(np.arange(len(counts), dtype=np.int32), counts)
            self.file["senders"][edges].astype(np.int32)
            self.file["shifts"][edges].astype(np.int32)


def _structures(store: Store, indices: np.ndarray) -> Structures:
    return Structures.of_columns(store.gather(STRUCTURE_COLUMNS, indices))


def measure_lists(folder: Path, store: Store, rounds: int) -> dict:
    """Neighbor lists computed, and read in the loader's blocks."""
    lists = ListsOnDisk(folder / "lists.h5", store, min(store.n_frames, 50_000))
    order = EpochOrder([Source(np.arange(lists.n_frames), 1.0)], seed=0, block=BLOCK)
    windows = [order.frames(k, np.arange(WINDOW)) for k in range(rounds + 2)]
    structures = {id(window): _structures(store, window) for window in windows}
    return {
        "computed": microseconds_a_frame(lambda w: small_crystal_neighbors(structures[id(w)], CUTOFF), windows),
        "read": microseconds_a_frame(lists.read, windows),
        "edges_per_frame": round(float(lists.edges[-1] / lists.n_frames), 1),
        "bytes_per_frame_of_lists": round(lists.n_bytes / lists.n_frames),
        "bytes_per_frame_of_store": round(store.path.stat().st_size / store.n_frames),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="any file of crystals that ase.io reads")
    parser.add_argument("--frames", type=int, default=200_000, help="in the store (half a kB and 0.2 ms each)")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--blocks", type=int, nargs="*", default=[1, 4, 16, 64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store.h5", crystals(options.data), options.frames)
        is_kept = sum(shard.unpacked_bytes for shard in store.shards) <= store_module.KEPT_BYTES
        report = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load_average_at_start": round(os.getloadavg()[0], 2),
            "versions": {name: version(name) for name in ("alexandria-mlip", "grain", "vesin", "h5py", "numpy")},
            "crystals": options.data.name if options.data else "random",
            "frames_in_store": options.frames,
            "kept_in_memory": is_kept,
            "cutoff": CUTOFF,
            "batch_size": BATCH_SIZE,
            "results": [
                measure(store, n, block, options.rounds, options.seconds)
                for block in (1, BLOCK)
                for n in options.workers
            ],
            "single_frames_on_one_core": measure_block(store, 1, options.rounds),
        }
        store = reopened(store, 0)
        report |= {
            "too_large_to_be_kept_on_one_core": [measure_block(store, n, options.rounds) for n in options.blocks],
            "neighbor_lists_on_one_core": measure_lists(Path(folder), store, options.rounds),
        }
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
