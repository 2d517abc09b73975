"""How fast `mlip data build` reads relaxation paths: MB of JSON a second and core, beside what bz2 alone allows.

    python benchmarks/data_build.py [--megabytes 200] [--workers 1 2] [--out benchmarks/results/data_build.json]

The shard is synthetic, of ALEXANDRIA's layout (pymatgen's structures with magnetic moments and charges, two runs a
path) and of random digits, which compress five-fold as those of real paths do. Goal: 20 MB of JSON a second and core.
Beside Python's bz2 stands rapidgzip's, if it is installed.
"""

import argparse
import bz2
import importlib
import importlib.util
import json
import os
import platform
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from pymatgen.core import Lattice, Structure

from mlip.data.build import build
from mlip.data.parts import chunks_of, rare_garbage_collection, refine_members
from mlip.data.readers import alexandria
from mlip.data.readers.streams import read_blocks
from mlip.data.refine import BuildSettings

SETTINGS = BuildSettings(subsample=0.01, outliers="pbesol,path")
RAPIDGZIP = "mb_of_json_per_s_of_cpu_of_rapidgzip_alone"
STEPS = 30
ELEMENTS = ("Fe", "O", "Al", "Co", "Na", "Cl", "Sr", "Ti")


def write_shard(path: Path, megabytes: float) -> float:
    """Random materials until the JSON has that size; returns it, MB. A few materials are made, and used again."""
    rng = np.random.default_rng(0)
    texts = [json.dumps(material(rng)) for _ in range(40)]
    size = 0
    with bz2.open(path, "wt") as stream:
        stream.write("{")
        for k in range(10**9):
            text = f'{", " if k else ""}"agm{k:09d}": {texts[k % len(texts)]}'
            stream.write(text)
            size += len(text)
            if size > megabytes * 1e6:
                break
        stream.write("}")
    return size / 1e6


def material(rng: np.random.Generator) -> list[dict]:
    n = int(np.clip(rng.lognormal(2.1, 0.6), 2, 40))
    species, fractions, length = rng.choice(ELEMENTS, n), rng.random((n, 3)), (18 * n) ** (1 / 3)
    energy, steps = -5.0 * n, []
    for k in range(STEPS):
        cell = Lattice(np.eye(3) * length * (1 + 0.001 * rng.normal()))
        site_properties = {name: rng.normal(size=n).round(3).tolist() for name in ("magmom", "charge")}
        moved = (fractions + 0.002 * rng.normal(size=(n, 3))).round(8)
        energy -= abs(0.5 * rng.normal()) * 0.8**k
        steps.append(
            {
                "structure": Structure(cell, species, moved, site_properties=site_properties).as_dict(),
                "energy": round(energy, 8),
                "forces": rng.normal(size=(n, 3)).round(8).tolist(),
                "stress": rng.normal(size=(3, 3)).round(6).tolist(),
            }
        )
    run = {"kpoints": [4, 4, 4], "PREC": "high", "ENMAX": 520.0, "ENAUG": 644.9}
    return [{**run, "steps": steps[: STEPS // 2]}, {**run, "steps": steps[STEPS // 2 :]}]


def stages(path: Path) -> dict[str, Callable[[], object]]:
    """What is timed, each with all that comes before it."""

    def members():
        return alexandria.material_members(path)

    found = {
        "bz2": lambda: exhaust(read_blocks(path)),
        "finding the materials": lambda: exhaust(members()),
        "records": lambda: exhaust(alexandria.read(path)),
        "sub-sampling, rules and checks": lambda: exhaust(
            refine_members(chunk, str(path), SETTINGS) for chunk in chunks_of(members())
        ),
    }
    if importlib.util.find_spec("rapidgzip"):
        found[RAPIDGZIP] = lambda: read_by_rapidgzip(path)
    return found


def read_by_rapidgzip(path: Path) -> None:
    with importlib.import_module("rapidgzip").open(str(path), parallelization=1) as stream:
        while stream.read(1 << 20):
            pass


def exhaust(items: Iterable[object]) -> None:
    deque(items, maxlen=0)


def measure_stages(path: Path, megabytes: float, repeats: int) -> dict:
    """Of CPU time, the median of repeats by turns: other programs on the machine hardly count."""
    timed = stages(path)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(repeats):
        for name, action in timed.items():
            start = time.process_time()
            with rare_garbage_collection():
                action()
            seconds[name].append(time.process_time() - start)
    known = {name: median(values) for name, values in seconds.items()}
    peer = known.pop(RAPIDGZIP, None)
    totals = list(known.values())
    alone = [total - before for total, before in zip(totals, [0.0, *totals], strict=False)]
    return {
        "mb_of_json_per_s_of_cpu_to_the_end_of": {name: round(megabytes / total, 1) for name, total in known.items()},
        "ms_of_cpu_a_mb_for": {name: round(1e3 * s / megabytes, 1) for name, s in zip(known, alone, strict=True)},
        **({RAPIDGZIP: round(megabytes / peer, 1)} if peer else {}),
    }


def measure_build(path: Path, megabytes: float, n_workers: int, repeats: int) -> dict:
    """A whole build of one file, with its store."""
    wall, cpu = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            before, start = cpu_seconds(), time.perf_counter()
            build([path], Path(folder) / "store.h5", SETTINGS, n_workers=n_workers)
            wall.append(time.perf_counter() - start)
            cpu.append(cpu_seconds() - before)
    return {
        "workers": n_workers,
        "mb_per_s": round(megabytes / median(wall), 1),
        "mb_per_s_of_cpu": round(megabytes / median(cpu), 1),
        "largest_process_mb": round(max(_peak(resource.RUSAGE_SELF), _peak(resource.RUSAGE_CHILDREN))),
    }


def cpu_seconds() -> float:
    """Of this process and of those that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=200.0, help="of JSON")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pbe_0000.json.bz2"
        megabytes = write_shard(path, options.megabytes)
        builds = [measure_build(path, megabytes, n, options.repeats) for n in options.workers]  # first: peak memory
        report = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load_average_at_start": round(os.getloadavg()[0], 2),
            "versions": {name: version(name) for name in ("alexandria-mlip", "msgspec", "h5py", "numpy")},
            "json_mb": round(megabytes, 1),
            "compressed_mb": round(path.stat().st_size / 1e6, 1),
            **measure_stages(path, megabytes, options.repeats),
            "builds": builds,
        }
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
