"""Labels structures by a potential: each shard becomes one of another folder, frames of absurd labels left out.

    python label.py TEACHER STRUCTURES LABELED

Shards that are there already stay, so that a run that was stopped goes on.
"""

import argparse
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

import mlip
from mlip.data.records import Frame, Trajectory
from mlip.data.store import Store
from mlip.data.writer import StoreWriter
from mlip.errors import MlipError
from mlip.units import EV_PER_A3_IN_GPA

MOST_FORCE = 40.0
"""eV/A."""
MOST_STRESS = 100.0
"""GPa."""
ENERGIES = (-15.0, 15.0)
"""eV/atom: the teacher has never seen what it puts beyond."""


def fault_of(frame: Frame) -> str | None:
    """Why nothing is to be learnt from a frame's labels."""
    if not np.isfinite(frame.energy) or not np.isfinite(frame.forces).all():
        return "not finite"
    if not ENERGIES[0] < frame.energy / len(frame) < ENERGIES[1]:
        return "energy"
    if np.abs(frame.forces).max() > MOST_FORCE:
        return "force"
    if frame.stress is not None and np.abs(frame.stress).max() * EV_PER_A3_IN_GPA > MOST_STRESS:
        return "stress"
    return None


def label(teacher: mlip.Potential, source: Path, out: Path) -> Counter[str]:
    """Write the labeled shard; its counts: frames, and those left out by reason."""
    counts: Counter[str] = Counter()
    with Store(source) as store, StoreWriter(out, {"teacher": teacher.fingerprint}) as writer:
        materials = list(store.materials())
        frames = [store.frame(k) for material in materials for k in material.frames]
        predicted = iter(teacher.try_predict(frames, dtype="float32"))
        for material in materials:
            labeled = []
            for k in material.frames:
                frame, found = store.frame(k), next(predicted)
                if isinstance(found, MlipError):
                    counts["refused by the teacher"] += 1
                    continue
                stress = found.get("stress") if frame.pbc.all() else None
                frame = replace(frame, energy=found["energy"], forces=found["forces"], stress=stress)
                fault = fault_of(frame)
                counts[fault or "frames"] += 1
                if fault is None:
                    labeled.append(frame)
            if labeled:
                trajectory = Trajectory(material.id, labeled, teacher.functional, material.dimensionality)
                writer.add(trajectory, material.split)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("structures", type=Path)
    parser.add_argument("labeled", type=Path)
    options = parser.parse_args()
    mlip.keep_freed_memory()
    teacher, start, total = mlip.load(options.teacher), time.monotonic(), Counter()
    for source in sorted(options.structures.glob("*.h5")):
        out = options.labeled / source.name
        if out.exists():
            continue
        counts = label(teacher, source, out)
        total += counts
        print(f"{out}: {dict(counts)}, {time.monotonic() - start:.0f} s", flush=True)
    print(f"labeled: {dict(total)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
