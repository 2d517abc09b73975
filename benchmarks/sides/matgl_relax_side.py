"""A peer's side of a race of relaxations: ASE's FIRE with matgl's calculator, one crystal after the other.

    python matgl_relax_side.py FOLDER --threads 2

Runs with matgl, ASE and their dependencies alone.
"""

import argparse
import time
from functools import partial

import ase.io
import matgl
import torch
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from matgl.ext.ase import PESCalculator
from protocol import Job, serve, versions


def relax(potential, structures: str, fmax: float, steps: int) -> Job:
    crystals = ase.io.read(structures, ":")
    _relax(potential, crystals[0], fmax, 3)  # what is loaded and tuned at the first call is not timed
    start = time.perf_counter()
    outcomes = [_relax(potential, atoms, fmax, steps) for atoms in crystals]
    seconds = time.perf_counter() - start
    converged, n_steps, energies = zip(*outcomes, strict=True)
    return Job(lambda: None, {"seconds": seconds, "converged": converged, "steps": n_steps, "energy": energies})


def _relax(potential, atoms, fmax: float, steps: int) -> tuple[bool, int, float]:
    atoms = atoms.copy()
    atoms.calc = PESCalculator(potential, stress_unit="eV/A3", use_voigt=True)
    optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
    converged = optimizer.run(fmax=fmax, steps=steps)
    return bool(converged), optimizer.nsteps, float(atoms.get_potential_energy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    potential = matgl.load_model(options.folder)
    potential.eval()
    introduction = {
        "versions": versions("matgl", "torch", "numpy", "ase"),
        "threads": torch.get_num_threads(),
        "elements": list(potential.model.element_types),
    }
    serve({"relax": partial(relax, potential)}, introduction)


if __name__ == "__main__":
    main()
