"""Relax a crystal, cell and all, with ASE's own optimizer and this potential as its calculator.

    python relax_with_ase.py potential.safetensors [POSCAR]

Without a structure, strained and rattled silicon.
"""

import argparse

import ase.io
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

import mlip

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential")
parser.add_argument("structure", nargs="?", help="any file that ASE reads")
arguments = parser.parse_args()

if arguments.structure:
    atoms = ase.io.read(arguments.structure)
else:
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(1.03 * atoms.cell, scale_atoms=True)
    atoms.rattle(0.05, seed=0)

atoms.calc = mlip.MLIPCalculator(arguments.potential, dtype="float64")
optimizer = FIRE(FrechetCellFilter(atoms))
converged = optimizer.run(fmax=0.02, steps=500)

print(f"{'converged' if converged else 'NOT converged'} after {optimizer.nsteps} steps")
energy, volume = atoms.get_potential_energy() / len(atoms), atoms.get_volume() / len(atoms)
print(f"energy {energy:.4f} eV/atom, volume {volume:.3f} A^3/atom")
