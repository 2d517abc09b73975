"""Phonons with phonopy: all displaced supercells are evaluated as one batch.

    pip install phonopy
    python phonons.py potential.safetensors [POSCAR]

Without a structure, silicon. The structure is relaxed tightly first: forces that are left over would be phonons'.
"""

import argparse

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

import mlip

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential")
parser.add_argument("structure", nargs="?", help="any file that ASE reads")
parser.add_argument("--supercell", type=int, default=2, help="repetitions along each vector")
arguments = parser.parse_args()

potential = mlip.load(arguments.potential)
crystal = ase.io.read(arguments.structure) if arguments.structure else bulk("Si")
(relaxed,) = mlip.relax([crystal], potential, fmax=1e-3, dtype="float64", progress=False)
print(f"relaxed: {relaxed.reason} after {relaxed.n_steps} steps")

unit_cell = PhonopyAtoms(
    numbers=relaxed.atoms.numbers,
    cell=relaxed.atoms.cell.array,
    scaled_positions=relaxed.atoms.get_scaled_positions(),
)
phonon = Phonopy(unit_cell, supercell_matrix=arguments.supercell * np.eye(3, dtype=int))
phonon.generate_displacements(distance=0.01)
supercells = [
    Atoms(cell.numbers, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)
    for cell in phonon.supercells_with_displacements
]
phonon.forces = [prediction["forces"] for prediction in potential.predict(supercells, dtype="float64")]
phonon.produce_force_constants()

phonon.run_mesh([8, 8, 8], is_gamma_center=True)
frequencies = phonon.mesh.frequencies  # THz, imaginary ones negative
phonon.run_thermal_properties(temperatures=[300.0], cutoff_frequency=0.01)  # without acoustic modes at Gamma
heat_capacity = phonon.thermal_properties.heat_capacity[0]
print(f"{len(supercells)} displaced supercells of {len(supercells[0])} atoms")
print(f"frequencies {frequencies.min():.2f} to {frequencies.max():.2f} THz")
print(f"heat capacity at 300 K {heat_capacity / len(crystal):.2f} J/K/mol of atoms")
