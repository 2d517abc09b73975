"""A pymatgen workflow: a Structure in, its relaxed Structure out.

    python pymatgen_workflow.py potential.safetensors [structure.cif]

Without a structure, silicon at a lattice constant that is too large.
"""

import argparse

from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

import mlip


def relax(structure: Structure, potential: mlip.Potential) -> tuple[Structure, mlip.RelaxResult]:
    """The relaxed structure, and how the relaxation went."""
    (result,) = mlip.relax([AseAtomsAdaptor.get_atoms(structure)], potential, fmax=0.01, progress=False)
    return AseAtomsAdaptor.get_structure(result.atoms), result


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential")
parser.add_argument("structure", nargs="?", help="any file that pymatgen reads")
arguments = parser.parse_args()

if arguments.structure:
    structure = Structure.from_file(arguments.structure)
else:
    structure = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.6), ["Si"], [[0, 0, 0]])

relaxed, result = relax(structure, mlip.load(arguments.potential))
print(f"{result.reason} after {result.n_steps} steps, {result.energy / len(relaxed):.4f} eV/atom")
for name, one in (("before", structure), ("after", relaxed)):
    symmetry = SpacegroupAnalyzer(one, symprec=0.01).get_space_group_symbol()
    volume = one.volume / len(one)
    print(f"{name}: {one.reduced_formula} {symmetry}, a {one.lattice.a:.3f} A, {volume:.3f} A^3/atom")
