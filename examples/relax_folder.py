"""Relax every CIF of a folder, all together on the device, and write relaxed CIFs and a table.

    python relax_folder.py potential.safetensors cifs/ relaxed/

(`mlip relax POTENTIAL FILES...` does the like from the command line, and goes on after a kill.)
"""

import argparse
import csv
from pathlib import Path

import ase.io

import mlip

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential")
parser.add_argument("cifs", type=Path)
parser.add_argument("out", type=Path)
arguments = parser.parse_args()

paths = sorted(arguments.cifs.glob("*.cif"))
results = mlip.relax([ase.io.read(path) for path in paths], arguments.potential, fmax=0.05, steps=500)

arguments.out.mkdir(parents=True, exist_ok=True)
with (arguments.out / "relaxed.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["file", "formula", "reason", "steps", "energy_eV_per_atom", "volume_A3_per_atom"])
    for path, result in zip(paths, results, strict=True):
        atoms = result.atoms
        row = [path.name, atoms.get_chemical_formula(), result.reason, result.n_steps]
        if not result.failed:  # a failed one has no relaxed structure: its reason is in the table
            row += [f"{result.energy / len(atoms):.5f}", f"{atoms.get_volume() / len(atoms):.4f}"]
            ase.io.write(arguments.out / path.name, atoms)
        table.writerow(row)
        print(*row)
