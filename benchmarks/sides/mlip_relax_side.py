"""Our side of a race of relaxations: `mlip.relax` with a potential of any model.

python mlip_relax_side.py POTENTIAL --threads 2
"""

import argparse
import time
from functools import partial
from pathlib import Path

import ase.io
from protocol import Job, serve, versions

from mlip.potential import Potential
from mlip.relaxation import Statistics, relaxations
from mlip.runtime import set_up_jax
from mlip.training.parallel import describe_devices

_MOST_RUNS = 4


def relax(potential: Potential, structures: str, fmax: float, steps: int) -> Job:
    """All structures of the file, from atoms to relaxed atoms, as soon as a run has nothing left to compile."""
    crystals = ase.io.read(structures, ":")
    first, *_ = _seconds(potential, crystals, fmax, steps)
    for _ in range(_MOST_RUNS):
        seconds, results, statistics = _seconds(potential, crystals, fmax, steps)
        if statistics.compile_seconds == 0:
            break
    check = {
        "seconds": seconds,
        "first_seconds": first,
        "converged": [result.converged for result in results],
        "steps": [result.n_steps for result in results],
        "energy": [result.energy for result in results],
        "padded": statistics.padded_fraction,
        "idle": statistics.idle_fraction,
        "compile_seconds": statistics.compile_seconds,
        "shapes": len(statistics.shapes),
    }
    return Job(lambda: None, check)


def _seconds(potential: Potential, crystals, fmax: float, steps: int):
    statistics, results = Statistics(), {}
    start = time.perf_counter()
    for index, result in relaxations(crystals, potential, fmax=fmax, steps=steps, statistics=statistics):
        results[index] = result
    return time.perf_counter() - start, [results[k] for k in range(len(crystals))], statistics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", type=Path)
    parser.add_argument("--threads", type=int, required=True, help="how many cores this process is pinned to")
    options = parser.parse_args()
    set_up_jax()
    potential = Potential.load(options.potential)
    introduction = {
        "versions": versions("alexandria-mlip", "jax", "jaxlib", "numpy", "ase"),
        "threads": options.threads,
        "device": describe_devices(),
        "elements": potential.elements,
    }
    serve({"relax": partial(relax, potential)}, introduction)


if __name__ == "__main__":
    main()
