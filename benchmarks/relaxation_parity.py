"""Do our relaxations end where the original code's did?

Compares the records of `mlip benchmark relaxation` with those of the original M3GNet (its own TensorFlow code, ASE's
FIRE and FrechetCellFilter) material by material, and both with DFT on the materials they share:

    mlip convert .../goldens/m3gnet m3gnet.safetensors
    mlip data build alexandria-random-1k.extxyz.gz --functional PBE --out a1k.h5
    mlip benchmark relaxation m3gnet.safetensors a1k.h5 --split all --out runs/a1k
    python benchmarks/relaxation_parity.py runs/a1k/results.jsonl \
        .../goldens/accuracy/relax_m3gnet_original_alexandria-random-1k.jsonl

Exit status 0 when the two agree within the limits below. The second file may be results of ours, too: those of any
ASE calculator on the same store, one by one (`mlip benchmark relaxation ase:MODULE:FACTORY STORE`).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from mlip.benchmark.metrics import ErrorSummary, energy_errors, volume_errors
from mlip.relaxation.results_file import read_results

SAME_ENERGY = 0.005
"""eV/atom. The original works in float32, and fmax = 0.05 eV/A leaves about a meV/atom to the path taken."""
SAME_VOLUME = 0.005
"""Relative."""
SHARE_THAT_AGREES = 95.0
MEAN_ENERGY = 0.01
"""eV/atom between the mean absolute errors."""
MEAN_VOLUME = 0.2
"""Percentage points between the mean absolute percentage errors."""


def read_reference(path: Path) -> dict[str, dict]:
    """Records of the original by material id; `steps` is the name of their number of steps."""
    with path.open() as file:
        first = json.loads(file.readline())
        if "mlip_results" in first:
            return {record["id"]: record | {"steps": record["n_steps"]} for record in read_results(path)[1]}
        return {record["id"]: record for record in (first, *map(json.loads, file))}


def columns(pairs: list[tuple[dict, dict]]) -> dict[str, np.ndarray]:
    """Ours, the original's and DFT's numbers of the shared materials; NaN = failed."""
    picks = {
        "n_atoms": lambda ours, theirs: ours["n_atoms"],
        "dft_energy": lambda ours, theirs: ours["dft_energy"],
        "dft_volume": lambda ours, theirs: ours["dft_volume"],
        "energy": lambda ours, theirs: None if ours["volume"] is None else ours["energy"],
        "volume": lambda ours, theirs: ours["volume"],
        "steps": lambda ours, theirs: ours["n_steps"],
        "their_energy": lambda ours, theirs: theirs.get("energy"),
        "their_volume": lambda ours, theirs: theirs.get("volume"),
        "their_steps": lambda ours, theirs: theirs.get("steps"),
    }
    return {
        name: np.array([np.nan if pick(*pair) is None else pick(*pair) for pair in pairs], dtype=np.float64)
        for name, pick in picks.items()
    }


def show(name: str, volume: ErrorSummary, energy: ErrorSummary) -> None:
    print(
        f"{name:9s} failed {volume.failed_percent:.2f} %  volume: outliers {volume.outlier_percent:.2f} %, "
        f"MPE {volume.mpe:+.2f}, MAPE {volume.mape:.2f} %, MAE {volume.mae:.3f} A^3/atom  "
        f"energy: outliers {energy.outlier_percent:.2f} %, ME {energy.mean_error:+.4f}, MAE {energy.mae:.4f} eV/atom"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("reference", type=Path)
    arguments = parser.parse_args()

    _, records = read_results(arguments.results)
    reference = read_reference(arguments.reference)
    pairs = [(record, reference[record["id"]]) for record in records if record["id"] in reference]
    table = columns(pairs)
    print(f"{len(records)} records of ours, {len(reference)} of the original, {len(pairs)} shared")

    n_atoms, dft_energy, dft_volume = table["n_atoms"], table["dft_energy"], table["dft_volume"]
    ours = (
        volume_errors(table["volume"], dft_volume, n_atoms),
        energy_errors(table["energy"], dft_energy, n_atoms),
    )
    theirs = (
        volume_errors(table["their_volume"], dft_volume, n_atoms),
        energy_errors(table["their_energy"], dft_energy, n_atoms),
    )
    show("ours", *ours)
    show("original", *theirs)

    both = np.isfinite(table["volume"]) & np.isfinite(table["their_volume"])
    energy = np.abs(table["energy"] - table["their_energy"])[both] / n_atoms[both]
    volume = np.abs(table["volume"] / table["their_volume"] - 1)[both]
    agrees = (energy < SAME_ENERGY) & (volume < SAME_VOLUME)
    share = 100 * agrees.mean()
    same_steps = 100 * (table["steps"] == table["their_steps"])[both].mean()
    print(
        f"{share:.1f} % of {both.sum()} agree within {1000 * SAME_ENERGY:g} meV/atom and {100 * SAME_VOLUME:g} % "
        f"of the volume; median differences {1000 * np.median(energy):.4f} meV/atom, {100 * np.median(volume):.4f} %; "
        f"{same_steps:.1f} % took the same number of steps"
    )
    identifiers = np.array([record["id"] for record, _ in pairs])[both]
    for k in np.flatnonzero(~agrees):
        print(f"  {identifiers[k]}: {1000 * energy[k]:.2f} meV/atom, {100 * volume[k]:.2f} %")

    is_same = (
        share >= SHARE_THAT_AGREES
        and abs(ours[1].mae - theirs[1].mae) < MEAN_ENERGY
        and abs(ours[0].mape - theirs[0].mape) < MEAN_VOLUME
    )
    print("the same" if is_same else "NOT the same")
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
