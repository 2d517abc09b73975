"""How fast `mlip data build` reads relaxation paths: MB of JSON a second and core, beside what bz2 alone allows.

    python benchmarks/data_build.py [--megabytes 200] [--workers 1 2] [--out benchmarks/results/data_build.json]

The shard is synthetic, of ALEXANDRIA's layout (pymatgen's structures with magnetic moments and charges, two runs a
path) and of random digits, which compress five-fold as those of real paths do. Goal: 20 MB of JSON a second and core.
"""

import argparse
import bz2
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from pymatgen.core import Lattice, Structure

from mlip.data import alexandria
from mlip.data.build import build
from mlip.data.json_stream import decoded
from mlip.data.refine import BuildSettings, refine

SETTINGS = BuildSettings(subsample=0.01, outliers="pbesol,path")
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

    def decompress() -> None:
        with bz2.open(path) as stream:
            while stream.read1(1 << 20):
                pass

    def members():
        return alexandria.material_members(path)

    return {
        "bz2 alone": decompress,
        "and finding the materials": lambda: sum(1 for _ in members()),
        "and decoding": lambda: sum(1 for one in members() if decoded(one, path)),
        "and records": lambda: sum(1 for _ in alexandria.read(path)),
        "and sub-sampling, rules and checks": lambda: sum(
            1 for item in alexandria.read(path) if refine(item, SETTINGS, "")
        ),
    }


def rate_of_cpu(action: Callable[[], object], megabytes: float, repeats: int) -> float:
    """MB/s of CPU time, the median: other programs on the machine don't count."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        seconds.append(time.process_time() - start)
    return round(megabytes / median(seconds), 1)


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
            "mb_of_json_per_s_of_cpu": {
                name: rate_of_cpu(action, megabytes, options.repeats) for name, action in stages(path).items()
            },
            "builds": builds,
        }
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
