"""The picture of the README: relaxed volumes and energies against DFT's, from the results of a relaxation benchmark.

mlip benchmark relaxation m3gnet random-1k.h5 --split all --out results
python benchmarks/readme_picture.py results/results.jsonl --out docs/_static/volumes.png
"""

import argparse
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from mlip.relaxation.results_file import read_results


def draw(records: list[dict], out: Path) -> str:
    """Write the picture; returns what it shows, in a line."""
    reasons = Counter(record["reason"] for record in records)
    relaxed = [record for record in records if record["reason"] in ("converged", "max_steps")]
    atoms = np.array([record["n_atoms"] for record in relaxed])
    dft, ours = (np.array([record[key] for record in relaxed]) / atoms for key in ("dft_volume", "volume"))
    energy_errors = np.array([record["energy"] - record["dft_energy"] for record in relaxed]) / atoms
    mape, mae = 100 * np.mean(np.abs(ours - dft) / dft), np.mean(np.abs(energy_errors))
    told = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common())

    plt.switch_backend("Agg")
    figure, (volumes, energies) = plt.subplots(
        1, 2, figsize=(8, 3.2), dpi=130, width_ratios=(1, 1.25), layout="constrained"
    )
    limits = (min(dft.min(), ours.min()) * 0.9, max(dft.max(), ours.max()) * 1.1)
    volumes.loglog(limits, limits, color="0.6", lw=1, zorder=0)
    volumes.scatter(dft, ours, s=7, alpha=0.5, linewidths=0, color="#1f5fa8")
    volumes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="DFT, Å³/atom", ylabel="relaxed, Å³/atom")
    volumes.set_title(f"volume, MAPE {mape:.1f} %", fontsize=10)
    energies.hist(np.clip(energy_errors, -1, 1), bins=np.linspace(-1, 1, 61), color="#c2571a")
    energies.set(xlabel="energy, potential - DFT, eV/atom (beyond ±1 in the last bins)", ylabel="crystals")
    energies.set_title(f"energy, MAE {mae:.3f} eV/atom", fontsize=10)
    figure.suptitle(told, fontsize=10)
    figure.savefig(out)
    plt.close(figure)
    return f"{len(records)} records: {told}; MAPE {mape:.2f} %, MAE {mae:.4f} eV/atom"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    print(draw(read_results(arguments.results)[1], arguments.out))


if __name__ == "__main__":
    main()
