"""Distances to the hull of 100,000 candidates against as many reference phases as ALEXANDRIA has.

python benchmarks/hull.py [--references 4500000 --candidates 100000 --workers 2] [--out results/hull.json]

References are made up, for ALEXANDRIA's are not at hand: the shares of binaries, ternaries and quaternaries are about
its own, formation energies a smooth function of the elements' electronegativities with noise. Candidates are spread
over as many chemical systems as there are, which is the slowest case. A sample is done by pymatgen too, from the same
phases: the times are compared, and the distances must agree.

python benchmarks/hull.py --grow FILE [--references 4500000 --added 100000 --workers 2] [--out results/hull_growth.json]

The other way round: a growing hull of as many entries, kept in FILE (made in the first call, which takes minutes, and
only read in the next ones), is given new entries. Seconds, peak memory of the process that reads and adds, vertices
that are new and that fell. Energies scatter so that a few of a hundred entries are on the hull, as in ALEXANDRIA; those
that are added scatter less, as candidates do that a model has chosen. A sample of all entries must have the distances
of a hull from scratch.
"""

import argparse
import json
import platform
import resource
import time
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from mlip.hull.convex_hull import MAX_ELEMENTS, Hulls, Phases
from mlip.hull.growing import GrowingHull

TOLERANCE = 1e-9
"""eV/atom, to pymatgen's distances."""
SHARES = {2: 0.06, 3: 0.74, 4: 0.20}
"""Of phases with so many elements."""
SCATTER, SCATTER_OF_OLD, SCATTER_OF_ADDED = (1.0, 0.15), (3.0, 0.1), (2.0, 0.1)
"""Shape and scale, eV/atom, of the gamma distribution that is added to energies."""
REACTIVE = [z for z in range(1, 95) if z not in (2, 10, 18, 36, 54, 84, 85, 86, 87, 88)]


def made_up_phases(n: int, rng: np.random.Generator, scatter: tuple[float, float] = SCATTER) -> Phases:
    """Random compositions of 2 to 4 elements; formation energies lower where electronegativities differ, eV/atom."""
    attraction = np.zeros(95)
    attraction[REACTIVE] = [Element(chemical_symbols[z]).X for z in REACTIVE]
    sizes = rng.choice(list(SHARES), n, p=list(SHARES.values()))
    numbers = np.sort(distinct_columns(n, rng), axis=1)
    amounts = rng.integers(1, 5, (n, 4)).astype(float)
    beyond = np.arange(4) >= sizes[:, None]
    numbers[beyond], amounts[beyond] = 0, 0
    fractions = amounts / amounts.sum(1, keepdims=True)
    chi = attraction[numbers]
    mean = (fractions * chi).sum(1, keepdims=True)
    energies = -1.5 * (fractions * (chi - mean) ** 2 * (numbers > 0)).sum(1) + rng.gamma(*scatter, n)
    empty = np.zeros((n, MAX_ELEMENTS - 4))
    return Phases(np.hstack([numbers, empty]).astype(np.uint8), np.hstack([fractions, empty]), energies)


def distinct_columns(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 4) different atomic numbers a row."""
    numbers = rng.choice(REACTIVE, (n, 4))
    while len(again := np.flatnonzero((np.diff(np.sort(numbers, axis=1), axis=1) == 0).any(1))):
        numbers[again] = rng.choice(REACTIVE, (len(again), 4))
    return numbers


def by_pymatgen(references: Phases, candidates: Phases, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Distances of some candidates, and seconds each; the search for a system's phases is not counted."""
    distances, seconds = [], 0.0
    for row in rows:
        phase = candidates.take(np.array([row]))
        elements = phase.numbers[0][phase.numbers[0] > 0]
        inside = (np.isin(references.numbers, elements) | (references.numbers == 0)).all(1)
        entries = [entry(references, k) for k in np.flatnonzero(inside)]
        entries += [PDEntry(Composition(chemical_symbols[z]), 0.0) for z in elements]
        candidate = entry(phase, 0)
        start = time.perf_counter()
        _, distance = PhaseDiagram(entries).get_decomp_and_e_above_hull(candidate, allow_negative=True)
        seconds += time.perf_counter() - start
        distances.append(distance)
    return np.array(distances), seconds / len(rows)


def entry(phases: Phases, k: int) -> PDEntry:
    amounts = {chemical_symbols[z]: x for z, x in zip(phases.numbers[k], phases.fractions[k], strict=True) if z}
    return PDEntry(Composition(amounts), phases.energies[k])


def grow(options: argparse.Namespace) -> int:
    """Add entries to a large hull that is on disk; see above."""
    rng = np.random.default_rng(0)
    if not options.grow.exists():
        old = made_up_phases(options.references, rng, SCATTER_OF_OLD)
        start = time.perf_counter()
        ids = [f"old{k:09d}" for k in range(len(old))]
        hull = GrowingHull.begin(ids, old, are_formation_energies=True, n_workers=options.workers)
        print(f"made in {time.perf_counter() - start:.0f} s by {options.workers} processes")
        hull.save(options.grow)
        return 0
    hull, read_after = timed(lambda: GrowingHull.load(options.grow))
    n_old, vertices = len(hull), int(hull.is_vertex.sum())
    added = made_up_phases(options.added, np.random.default_rng(1), SCATTER_OF_ADDED)
    change = hull.add([f"new{k:09d}" for k in range(len(added))], added, n_workers=options.workers)
    _, written_after = timed(lambda: hull.save(options.grow.with_suffix(".after.npz")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    rows = np.random.default_rng(2).choice(len(hull), options.sample, replace=False)
    sample = hull.phases.take(rows)
    inside = np.isin(hull.phases.numbers, np.append(np.unique(sample.numbers), 0)).all(1)
    scratch = Hulls(hull.phases.take(np.flatnonzero(inside)), are_formation_energies=True).distances(sample)
    theirs, _ = by_pymatgen(hull.phases, sample, np.arange(len(sample)))
    differences = [float(np.abs(hull.distances[rows] - np.maximum(one, 0)).max()) for one in (scratch, theirs)]
    figures = {
        "entries": n_old,
        "on the hull": vertices,
        "chemical systems": len(np.unique(hull.phases.keys)),
        "added": len(added),
        "workers": options.workers,
        "seconds to add": round(change.seconds, 1),
        "seconds to read": round(read_after, 1),
        "seconds to write": round(written_after, 1),
        "peak memory, GiB": round(peak, 2),
        "new vertices": len(change.new_vertices),
        "fallen vertices": len(change.fallen_vertices),
        "older entries whose distance changed": change.n_changed,
        "largest difference to a hull from scratch, eV/atom": float(f"{differences[0]:.1g}"),
        "largest difference to pymatgen, eV/atom": float(f"{differences[1]:.1g}"),
        "sample": options.sample,
        "machine": platform.processor() or platform.machine(),
    }
    return told(figures, options.out, max(differences))


def timed(work):
    """What it returns, and seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def told(figures: dict, out: Path | None, difference: float) -> int:
    """Print and write figures; the exit status says whether distances agree."""
    print(json.dumps(figures, indent=1))
    if out:
        out.write_text(json.dumps(figures, indent=1) + "\n")
    if not difference < TOLERANCE:
        print(f"FAULT distances differ by {difference:.1g} eV/atom")
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=4_500_000)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sample", type=int, default=20, help="candidates that pymatgen does too")
    parser.add_argument("--out", type=Path, help="JSON of the figures")
    parser.add_argument("--grow", type=Path, metavar="FILE", help="a hull that grows, instead")
    parser.add_argument("--added", type=int, default=100_000, help="entries that it is given")
    options = parser.parse_args()
    if options.grow:
        return grow(options)

    rng = np.random.default_rng(0)
    references, candidates = made_up_phases(options.references, rng), made_up_phases(options.candidates, rng)
    start = time.perf_counter()
    hulls = Hulls(references, are_formation_energies=True)
    sorted_after = time.perf_counter() - start
    distances = hulls.distances(candidates, n_workers=options.workers)
    seconds = time.perf_counter() - start

    rows = rng.choice(len(candidates), options.sample, replace=False)
    theirs, pymatgen_seconds = by_pymatgen(references, candidates, rows)
    figures = {
        "references": len(references),
        "candidates": len(candidates),
        "chemical systems": len(np.unique(candidates.keys)),
        "workers": options.workers,
        "seconds": round(seconds, 1),
        "of which sorting the references": round(sorted_after, 1),
        "ms a candidate": round(1000 * seconds / len(candidates), 3),
        "pymatgen, ms a candidate": round(1000 * pymatgen_seconds, 1),
        "times faster, a worker": round(pymatgen_seconds * len(candidates) / seconds / options.workers, 1),
        "largest difference to pymatgen, eV/atom": float(f"{np.abs(distances[rows] - theirs).max():.1g}"),
        "machine": platform.processor() or platform.machine(),
    }
    return told(figures, options.out, float(np.abs(distances[rows] - theirs).max()))


if __name__ == "__main__":
    raise SystemExit(main())
