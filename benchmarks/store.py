"""What a store costs at scale: opening, memory, random and sequential reading, by one process and by several; and what
each compression does to speed and size.

    python benchmarks/store.py [--frames 1000000] [--index-frames 100000000] [--out benchmarks/results/store.json]

Some ten minutes, and 2 GB of disk. Frames are of real size (crystals of 1 to 40 atoms, 8.6 in the mean) with random
positions, forces and stresses, the hardest there is to compress; energies, offsets and numbers compress as real ones
do. The index of 10^8 frames is whole (offsets, materials, splits are written for every frame); its payload is absent:
columns that were never written take no space, and read as NaN. Compressions other than h5py's own come from hdf5plugin,
if it is installed. Beside the JSON of `--out` goes a table in Markdown.
"""

import argparse
import importlib
import importlib.util
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

from mlip.data import Frame, Store, StoreWriter, Trajectory, writer
from mlip.data.shard import BLOCK

# Registers its filters with HDF5, in every process that is to read them.
hdf5plugin = importlib.import_module("hdf5plugin") if importlib.util.find_spec("hdf5plugin") else None

FRAMES_A_MATERIAL = 10
COLUMNS = ("frames/energy", "frames/cell", "frames/stress", "atoms/number", "atoms/position", "atoms/force")


def filters() -> dict[str, dict]:
    """Name -> arguments of h5py's create_dataset."""
    known: dict[str, dict] = {
        "none": {},
        "lzf": {"compression": "lzf"},
        "gzip 1": {"compression": "gzip", "compression_opts": 1},
        "gzip 4": {"compression": "gzip", "compression_opts": 4},
    }
    if hdf5plugin:
        known |= {
            "zstd 3": dict(hdf5plugin.Zstd(clevel=3)),
            "blosc2 zstd 3": dict(hdf5plugin.Blosc2(cname="zstd", clevel=3, filters=hdf5plugin.Blosc2.SHUFFLE)),
            "blosc2 lz4 5": dict(hdf5plugin.Blosc2(cname="lz4", clevel=5, filters=hdf5plugin.Blosc2.SHUFFLE)),
        }
    return {name: with_checksum(name, options) for name, options in known.items()}


def with_checksum(name: str, options: dict) -> dict:
    shuffle = {"shuffle": True} if not name.startswith(("none", "blosc2")) else {}
    return options | shuffle | {"fletcher32": True}


def trajectories(n_frames: int) -> Iterator[Trajectory]:
    rng = np.random.default_rng(0)
    for m in range(n_frames // FRAMES_A_MATERIAL):
        n = int(np.clip(rng.lognormal(1.9, 0.7), 1, 40))
        numbers = rng.integers(1, 90, n).astype(np.int16)
        cell = np.eye(3) * (18.0 * n) ** (1 / 3)
        fractions = rng.random((n, 3))
        frames = [
            Frame(
                numbers,
                (fractions + 0.01 * rng.normal(size=(n, 3))) @ cell,
                cell * (1 + 0.001 * rng.normal()),
                np.ones(3, bool),
                energy=round(-5.0 * n - rng.random(), 8),
                forces=rng.normal(size=(n, 3)),
                stress=rng.normal(size=6) * 0.01,
                ionic_step=k,
            )
            for k in range(FRAMES_A_MATERIAL)
        ]
        yield Trajectory(f"agm{m:09d}", frames, "PBE", 3, {"e_form": float(rng.normal())})


@contextmanager
def compressed_by(options: dict) -> Iterator[None]:
    usual = writer.FILTERS
    writer.FILTERS = options
    try:
        yield
    finally:
        writer.FILTERS = usual


def measure_filter(path: Path, n_frames: int, options: dict, n_reads: int, processes: list[int]) -> dict:
    start, cpu = time.perf_counter(), time.process_time()
    with compressed_by(options), StoreWriter(path) as opened:
        for trajectory in trajectories(n_frames):
            opened.add(trajectory, "train")
    written, cpu = time.perf_counter() - start, time.process_time() - cpu
    result = {
        "mb_per_million_frames": round(path.stat().st_size / n_frames),  # bytes a frame = MB a million
        "compression_ratio": round(plain_bytes(path) / path.stat().st_size, 3),
        "frames_written_per_s": round(n_frames / written),
        "frames_written_per_s_of_cpu": round(n_frames / cpu),
        **in_a_new_process(read_in_order, path),
    }
    return result | {f"random_frames_per_s_{n}_processes": round(random_rate(path, n_reads, n)) for n in processes}


def plain_bytes(path: Path) -> int:
    """Of all columns, uncompressed."""
    sizes = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: sizes.append(item.nbytes) if isinstance(item, h5py.Dataset) else None)
    return sum(sizes)


def in_a_new_process(function: Callable[[Path], dict], path: Path) -> dict:
    """Where memory shows what the function needs of it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (path,))


def read_in_order(path: Path) -> dict:
    before, start, cpu = resident_mb(), time.perf_counter(), time.process_time()
    with Store(path) as store:
        n_frames = sum(len(block["size"]) for block in store.blocks(COLUMNS))
    return {
        "frames_in_order_per_s": round(n_frames / (time.perf_counter() - start)),
        "frames_in_order_per_s_of_cpu": round(n_frames / (time.process_time() - cpu)),
        "resident_growth_mb": round(resident_mb() - before),
    }


def random_rate(path: Path, n_reads: int, n_processes: int) -> float:
    """Frames/s of all processes together, each with its own random order."""
    with multiprocessing.get_context("spawn").Pool(n_processes) as pool:
        pool.map(read_randomly, [(path, seed, 100) for seed in range(n_processes)])  # modules are imported
        start = time.perf_counter()
        pool.map(read_randomly, [(path, seed, n_reads) for seed in range(n_processes)], chunksize=1)
        return n_processes * n_reads / (time.perf_counter() - start)


def read_randomly(task: tuple[Path, int, int]) -> None:
    path, seed, n_reads = task
    with Store(path) as store:
        for k in np.random.default_rng(seed).integers(0, len(store), n_reads):
            store.frame(int(k))


def write_index(path: Path, n_frames: int) -> None:
    """A store of that many frames without payload: a real store, whose columns are then lengthened."""
    with StoreWriter(path) as opened:
        opened.add(next(trajectories(FRAMES_A_MATERIAL)), "train")
    n_materials = n_frames // FRAMES_A_MATERIAL
    rng = np.random.default_rng(0)
    with h5py.File(path, "r+") as file:
        for name, column in file["frames"].items():
            column.resize(n_frames + (name == "atom_offset"), axis=0)
        n_atoms = 0
        for start in range(0, n_frames, BLOCK * 16):
            rows = slice(start, min(start + BLOCK * 16, n_frames))
            ends = n_atoms + np.cumsum(rng.integers(1, 17, rows.stop - rows.start))
            file["frames/atom_offset"][rows.start + 1 : rows.stop + 1] = ends
            file["frames/material"][rows] = np.arange(rows.start, rows.stop) // FRAMES_A_MATERIAL
            file["frames/split"][rows] = 0
            n_atoms = int(ends[-1])
        for column in file["atoms"].values():
            column.resize(n_atoms, axis=0)
        for name in ("dimensionality", "split", "frame_offset", "id", "formula", "functional"):
            file[f"materials/{name}"].resize(n_materials + (name == "frame_offset"), axis=0)
        for group in ("numbers", "texts"):
            for column in file[f"materials/{group}"].values():
                column.resize(n_materials, axis=0)
        file["materials/frame_offset"][:] = np.arange(n_materials + 1) * FRAMES_A_MATERIAL
        file["materials/dimensionality"][:] = 3


def measure_index(path: Path, n_frames: int) -> dict:
    write_index(path, n_frames)
    return {"file_mb": round(path.stat().st_size / 1e6)} | in_a_new_process(open_index, path)


def open_index(path: Path) -> dict:
    before, start = resident_mb(), time.perf_counter()
    with Store(path) as store:
        opened = time.perf_counter() - start
        start = time.perf_counter()
        for k in np.random.default_rng(0).integers(0, len(store), 200):
            store.n_atoms_of([int(k)])
            store.material_of(int(k))
        looked_up = time.perf_counter() - start
        return {
            "frames": len(store),
            "seconds_to_open": round(opened, 4),
            "ms_to_look_up_a_frame": round(looked_up / 200 * 1e3, 3),
            "resident_growth_mb": round(resident_mb() - before, 1),
        }


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def as_markdown(report: dict) -> str:
    """What was found, as a table: a column a store."""
    index, found = report["index"], dict(report["compressions"])
    n_frames = found.pop("frames")
    stores = {f"{name}, {n_frames:,} frames": figures for name, figures in found.items()}
    stores[f"the store's own, {report['store']['frames']:,} frames"] = report["store"]
    measures = [name for name in report["store"] if name != "frames"]
    header = ["", *stores]
    rows = [[name.replace("_", " "), *(figures[name] for figures in stores.values())] for name in measures]
    lines = ["| " + " | ".join(map(str, line)) + " |" for line in (header, ["---"] * len(header), *rows)]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return "\n".join(
        [
            "# What a store costs",
            "",
            f"{report['date']}, {report['machine']}, load {report['load_average_at_start']} at the start; {versions}.",
            "By `python benchmarks/store.py`, whose docstring tells of the frames; to make them is part of writing.",
            "",
            f"An index of {index['frames']:,} frames, {index['file_mb']} MB: opened in {index['seconds_to_open']} s, "
            f"memory grows by {index['resident_growth_mb']} MB, a frame is looked up in "
            f"{index['ms_to_look_up_a_frame']} ms.",
            "",
            "Every store has Fletcher32's checksums, and all but the uncompressed shuffle bytes.",
            "",
            *lines,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000, help="of the store in the present compression")
    parser.add_argument("--filter-frames", type=int, default=100_000, help="of the store in each compression")
    parser.add_argument("--index-frames", type=int, default=100_000_000)
    parser.add_argument("--reads", type=int, default=5_000, help="random frames a process")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    packages = ("alexandria-mlip", "h5py", "numpy", *(["hdf5plugin"] if hdf5plugin else []))
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in packages} | {"hdf5": h5py.version.hdf5_version},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.h5"
        report["index"] = measure_index(path, options.index_frames)
        path.unlink()
        report["compressions"] = {"frames": options.filter_frames}
        for name, arguments in filters().items():
            found = measure_filter(path, options.filter_frames, arguments, options.reads, options.processes)
            report["compressions"][name] = found
            path.unlink()
        found = measure_filter(path, options.frames, writer.FILTERS, options.reads, options.processes)
        report["store"] = {"frames": options.frames, **found}
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")
        options.out.with_suffix(".md").write_text(as_markdown(report))


if __name__ == "__main__":
    main()
