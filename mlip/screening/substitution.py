"""Candidate crystals: the prototype with other elements, scaled to their expected volume.

CGAT does not see the scale, but relaxation starts from it. The prototype's volume is multiplied by the ratio of the
sums of r^3 over the atoms, with Slater's radii (J. Chem. Phys. 41, 3199, 1964). Between relaxed crystals of one
prototype (6,079 pairs from ALEXANDRIA) this predicts the logarithm of the volume within 0.10 (median) and 0.35 (90th
percentile); covalent radii within 0.16 and 0.54, the prototype's own volume within 0.22 and 0.67.
"""

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Float, Int

from mlip.screening.prototypes import ScreeningPrototype


def substituted(prototype: ScreeningPrototype, numbers: Int[np.ndarray, " sites"]) -> Atoms:
    """The prototype with these atomic numbers on its sites."""
    return with_elements(prototype.atoms, numbers[prototype.site_of_atom])


def with_elements(crystal: Atoms, numbers: Int[np.ndarray, " n"]) -> Atoms:
    """A scaled copy of the crystal with these atomic numbers; the crystal is not modified."""
    atoms = crystal.copy()
    atoms.numbers = numbers
    before, after = ((_radii(of.numbers) ** 3).sum() for of in (crystal, atoms))
    atoms.set_cell(atoms.cell.array * (after / before) ** (1 / 3), scale_atoms=True)
    return atoms


def _radii(numbers: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Slater's radii, A; covalent radii for the few elements that Slater omitted."""
    from pymatgen.core import Element

    slater = {z: Element(chemical_symbols[z]).atomic_radius for z in set(numbers.tolist())}
    return np.array([slater[z] or covalent_radii[z] for z in numbers.tolist()], float)
