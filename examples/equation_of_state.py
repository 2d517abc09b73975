"""Equation of state: equilibrium volume and bulk modulus from energies at seven volumes, evaluated as one batch.

    python equation_of_state.py potential.safetensors [POSCAR]

Without a structure, silicon. The structure is relaxed first; then the cell is scaled, and atoms keep their fractional
positions.
"""

import argparse

import ase.io
import ase.units
import numpy as np
from ase.build import bulk
from ase.eos import EquationOfState

import mlip

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential")
parser.add_argument("structure", nargs="?", help="any file that ASE reads")
arguments = parser.parse_args()

potential = mlip.load(arguments.potential)
crystal = ase.io.read(arguments.structure) if arguments.structure else bulk("Si")
(relaxed,) = mlip.relax([crystal], potential, fmax=0.01, dtype="float64", progress=False)
print(f"relaxed: {relaxed.reason} after {relaxed.n_steps} steps")

scaled = []
for strain in np.linspace(-0.02, 0.02, 7):
    atoms = relaxed.atoms.copy()
    atoms.set_cell((1 + strain) * atoms.cell, scale_atoms=True)
    scaled.append(atoms)
volumes = [atoms.get_volume() for atoms in scaled]
energies = [prediction["energy"] for prediction in potential.predict(scaled, dtype="float64")]

volume, energy, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
print(f"volume {volume / len(crystal):.3f} A^3/atom, energy {energy / len(crystal):.4f} eV/atom")
print(f"bulk modulus {modulus / ase.units.GPa:.1f} GPa")
