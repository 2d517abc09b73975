"""Distances to the hull of 100,000 candidates against as many reference phases as ALEXANDRIA has.

python benchmarks/hull.py [--references 4500000 --candidates 100000 --workers 2] [--out results/hull.json]

References are made up, for ALEXANDRIA's are not at hand: the shares of binaries, ternaries and quaternaries are about
its own, formation energies a smooth function of the elements' electronegativities with noise. Candidates are spread
over as many chemical systems as there are, which is the slowest case. A sample is done by pymatgen too, from the same
phases: the times are compared, and the distances must agree.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from mlip.hull.convex_hull import MAX_ELEMENTS, Hulls, Phases

TOLERANCE = 1e-9
"""eV/atom, to pymatgen's distances."""
SHARES = {2: 0.06, 3: 0.74, 4: 0.20}
"""Of phases with so many elements."""
REACTIVE = [z for z in range(1, 95) if z not in (2, 10, 18, 36, 54, 84, 85, 86, 87, 88)]


def made_up_phases(n: int, rng: np.random.Generator) -> Phases:
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
    energies = -1.5 * (fractions * (chi - mean) ** 2 * (numbers > 0)).sum(1) + rng.gamma(1.0, 0.15, n)
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=4_500_000)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sample", type=int, default=20, help="candidates that pymatgen does too")
    parser.add_argument("--out", type=Path, help="JSON of the figures")
    options = parser.parse_args()

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
    print(json.dumps(figures, indent=1))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
    if not (difference := np.abs(distances[rows] - theirs).max()) < TOLERANCE:
        print(f"FAULT distances differ from pymatgen's by {difference:.1g} eV/atom")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
