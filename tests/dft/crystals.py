"""Structures that are handed over in tests: crystals with and without U, a layer and a chain."""

import numpy as np
from ase import Atoms
from ase.build import bulk, graphene, mx2

from mlip.dft import Proposal

FEO = bulk("FeO", "rocksalt", a=4.3)
COPPER = bulk("Cu", a=3.6)
SALT = bulk("NaCl", "rocksalt", a=5.6)
LAYER = graphene(vacuum=5.0)
"""Periodic in the plane of the layer alone."""
SULFIDE = mx2("MoS2", a=3.18, vacuum=4.0)
SULFIDE.pbc = True
"""Its vacuum, 8 A, is periodic, as in ALEXANDRIA's layers."""
CHAIN = Atoms("C2", [[0, 0.1, 11.9], [1.3, 0, 0]], cell=[2.6, 12, 12], pbc=True)
"""Along a, across the boundary of its cell."""


def proposals() -> list[Proposal]:
    return [
        Proposal("r001-000000", FEO),
        Proposal("r001-000001", COPPER),
        Proposal("r001-000002", LAYER, 2),
        Proposal("r001-000003", SULFIDE, 2),
        Proposal("r001-000004", CHAIN, 1),
    ]


def random_crystal(rng: np.random.Generator, symbols: str = "Cu Al Ni Ag O F Fe Co") -> Atoms:
    """One to four atoms in a strained cell."""
    atoms = bulk("Cu", a=float(rng.uniform(3.4, 4.4))).repeat((1, 1, int(rng.integers(1, 5))))
    atoms.symbols = rng.choice(symbols.split(), size=len(atoms))
    atoms.set_cell(atoms.cell @ (np.eye(3) + rng.uniform(-0.05, 0.05, (3, 3))), scale_atoms=True)
    return atoms
