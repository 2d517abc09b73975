"""Relaxations with a surrogate that kill themselves, as `kill -9` would; in a process of their own.

    python -m tests.dft.dying_surrogate FOLDER CALCULATOR CALL

dies when call number CALL of ResultsFile.append has returned.
"""

import sys
from pathlib import Path

import numpy as np
from ase.build import bulk

from mlip.dft import Proposal, SurrogateRecipe, hand_over
from mlip.relaxation.results_file import ResultsFile
from tests.dying import die_at_call

EMT = "ase:ase.calculators.emt:EMT"


def proposals() -> list[Proposal]:
    """Twelve strained crystals of EMT's elements, and one of iron, which it does not know."""
    rng = np.random.default_rng(1)
    structures = []
    for symbol in ("Cu", "Al", "Ni", "Ag", "Fe", "Au", "Pd", "Pt", "Cu", "Al", "Ni", "Ag", "Au"):
        atoms = bulk("Cu", a=4.0).repeat((1, 1, 2))
        atoms.symbols[:] = symbol
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.uniform(-0.03, 0.03, (3, 3))), scale_atoms=True)
        structures.append(atoms)
    return [Proposal(f"r001-{k:06d}", atoms) for k, atoms in enumerate(structures)]


if __name__ == "__main__":
    folder, calculator, call = sys.argv[1:]
    die_at_call(ResultsFile, "append", int(call))
    hand_over(SurrogateRecipe(kind="ase", calculator=calculator), proposals(), Path(folder), progress=False)
