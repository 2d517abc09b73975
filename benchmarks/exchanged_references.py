"""What the energy table would be had the reference energies E0 of another potential been added.

The paper has 16 % energy outliers for M3GNet-2D on crystals, while hardly a relaxation fails and hardly a volume is
off. Relaxations do not depend on E0, energies do: this recounts the outliers of `mlip benchmark relaxation`.

    python benchmarks/exchanged_references.py runs/paper/alexandria-random-1k/M3GNet-2D M3GNet-2D.safetensors \
        M3GNet.safetensors M3GNet-PBEsol.safetensors
"""

import argparse
from pathlib import Path

import numpy as np

import mlip
from mlip.benchmark.error_summary import Columns
from mlip.benchmark.intervals import wilson
from mlip.benchmark.metrics import energy_errors
from mlip.benchmark.results import load_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", help="of the first potential")
    parser.add_argument("potentials", type=Path, nargs="+", help="the results' own first, then those to take E0 from")
    arguments = parser.parse_args()

    [results] = load_results([arguments.results])
    columns = Columns.of(results.records)
    own = mlip.load(arguments.potentials[0]).reference_energies_by_z
    for path in arguments.potentials:
        change = np.nan_to_num(mlip.load(path).reference_energies_by_z - own)  # an element that one lacks: left as is
        energy = columns.energy + [change[record["numbers"]].sum() for record in results.records]
        errors = energy_errors(energy, columns.dft_energy, columns.n_atoms)
        n_relaxed = int(np.isfinite(energy).sum())
        low, high = wilson(errors.outlier_percent, n_relaxed)
        print(
            f"E0 of {path.stem:16s} outliers {errors.outlier_percent:5.1f} % ({low:.1f} to {high:.1f}), "
            f"ME {errors.mean_error:+.3f}, MAE of the rest {errors.mae:.3f} eV/atom, {n_relaxed} materials"
        )


if __name__ == "__main__":
    main()
