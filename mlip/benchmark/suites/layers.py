"""Layers built from covalent radii: graphene, hexagonal nitrides, and dichalcogenides. Their lattice constants are
starts of relaxations, not references."""

import numpy as np
from ase import Atoms
from ase.build import graphene, mx2
from ase.data import atomic_numbers, covalent_radii

VACUUM = 15.0
"""Vacuum of a layer in a fully periodic cell, A, as in ALEXANDRIA."""
_HONEYCOMBS = {"C2": ("C", "C"), "BN": ("B", "N"), "AlN": ("Al", "N"), "SiC": ("Si", "C")}
_DICHALCOGENIDES = {
    "2H": ("MoS2", "MoSe2", "MoTe2", "WS2", "WSe2", "NbS2", "NbSe2", "TaS2"),
    "1T": ("TiS2", "ZrS2", "HfS2", "HfSe2", "SnS2", "SnSe2", "PtS2", "PtSe2", "MgCl2", "CdI2"),
}
_PRISM, _OCTAHEDRON = np.sqrt(7 / 12 * 2), np.sqrt(2)
"""Lattice constant divided by bond length: of a trigonal prism as high as its edge, and of an octahedron."""


def layers() -> dict[str, Atoms]:
    """The layers, by formula and kind."""
    built = {f"{name} honeycomb": _honeycomb(name, *pair) for name, pair in _HONEYCOMBS.items()}
    for kind, formulas in _DICHALCOGENIDES.items():
        built |= {f"{formula} {kind}": _dichalcogenide(formula, kind) for formula in formulas}
    return built


def _honeycomb(formula: str, one: str, other: str) -> Atoms:
    return _periodic(graphene(formula, a=np.sqrt(3) * 0.95 * _bond(one, other), vacuum=VACUUM / 2))


def _dichalcogenide(formula: str, kind: str) -> Atoms:
    symbols = Atoms(formula).get_chemical_symbols()
    bond = _bond(symbols[0], symbols[-1])
    ratio = _PRISM if kind == "2H" else _OCTAHEDRON
    a = ratio * bond
    height = 2 * np.sqrt(bond**2 - a**2 / 3)
    return _periodic(mx2(formula, kind=kind, a=a, thickness=height, vacuum=VACUUM / 2))


def _periodic(atoms: Atoms) -> Atoms:
    atoms.pbc = True
    return atoms


def _bond(one: str, other: str) -> float:
    """Bond length from covalent radii, A."""
    return float(covalent_radii[[atomic_numbers[one], atomic_numbers[other]]].sum())
