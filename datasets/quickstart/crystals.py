"""3D crystals: a grid of cations and anions, each pair in several AFLOW prototypes, and the elemental metals.

As in ALEXANDRIA, a system comes with competing stoichiometries and polymorphs, most of them not its ground state:
what a potential learns of a bond in one of them it can use in another, which is what held-out materials test.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from building import METALS, elements, push_off_equilibrium, sum_of_radii
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

CATIONS = elements("Li Na K Rb Cs Mg Ca Sr Ba Sc Y La Zn Cd")
ANIONS = elements("F Cl Br I O S Se Te")
COMPOUND_TYPES = {
    "AB_cF8_225_a_b NaCl": "Na",
    "AB_cP2_221_b_a CsCl": "Cs",
    "AB_cF8_216_c_a ZnS": "Zn",
    "AB_hP4_186_b_b ZnS": "Zn",
    "AB_hP4_194_c_a NiAs": "Ni",
    "AB_tP4_129_a_c PbO": "Pb",
    "AB_tP4_131_c_e PtS": "Pt",
    "AB2_cF12_225_a_c CaF2": "Ca",
    "AB2_hP3_164_a_d CdI2": "Cd",
    "AB2_hP6_194_c_f MoS2": "Mo",
    "A2B_tP6_136_f_a TiO2": "Ti",
    "A2B_tI12_141_e_a TiO2": "Ti",
    "A3B_cP4_221_d_a ReO3": "Re",
    "AB3_cF16_225_a_bc BiF3": "Bi",
}
"""AFLOW prototype of a binary compound -> which of its elements is the cation."""
METAL_TYPES = [
    "A_cF4_225_a Cu",
    "A_cI2_229_a W",
    "A_hP2_194_c Mg",
    "A_tI4_141_a Sn",
    "A_cP1_221_a Po",
    "A_tI2_139_a In",
    "A_hP4_194_ac La",
]
"""AFLOW prototypes of an element."""
ROUNDS = ((4, METAL_TYPES[:4]), (2, METAL_TYPES[4:]))
"""How many more compound types each pair gets, and which types each metal gets, in a round."""

BOND_RANGE = (0.95, 1.15)
"""Bounds of the shortest distance in sums of covalent radii."""
SCALE = (0.95, 1.08)
"""Bounds of the factor by which a cell's vectors start off that size."""
MIN_VOLUME = 5.5
"""A^3 an atom, about diamond's: small atoms in a dense prototype would start too dense, and collapse."""


def build_crystals(rng: np.random.Generator) -> Iterator[Atoms]:
    """Round by round every pair in some of the compound types and every metal in its own, in random order."""
    prototypes = aflow_prototypes()
    left = {pair: list(COMPOUND_TYPES) for pair in product(CATIONS, ANIONS)}
    for n_types, metal_types in ROUNDS:
        chosen = [*compounds(left, n_types, rng), *metals(metal_types, rng)]
        for k in rng.permutation(len(chosen)):
            name, cation, anion = chosen[k]
            atoms = substitute(prototypes[name], COMPOUND_TYPES.get(name), cation, anion)
            atoms.set_cell(atoms.cell * rng.uniform(*SCALE), scale_atoms=True)
            yield push_off_equilibrium(atoms, rng)


def compounds(
    left: dict[tuple[str, str], list[str]], n_types: int, rng: np.random.Generator
) -> Iterator[tuple[str, str, str]]:
    """(prototype, cation, anion) of every pair; takes the prototypes out of `left`."""
    for (cation, anion), types in left.items():
        for name in rng.choice(types, n_types, replace=False).tolist():
            types.remove(name)
            yield name, cation, anion


def metals(types: list[str], rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    """(prototype, element, element) of every metal's crystals."""
    for metal in METALS:
        for name in rng.choice(types, len(types), replace=False).tolist():
            yield name, metal, metal


def aflow_prototypes() -> dict[str, Atoms]:
    """Name -> primitive cell of the AFLOW prototypes, of those that pymatgen ships, that are used here."""
    prototypes = {}
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure = entry["snl"].structure
        name = f"{entry['tags']['aflow']} {structure.reduced_formula}"
        if name in COMPOUND_TYPES or name in METAL_TYPES:
            prototypes[name] = structure.get_primitive_structure().to_ase_atoms(msonable=False)
    return prototypes


def substitute(prototype: Atoms, old_cation: str | None, cation: str, anion: str) -> Atoms:
    """Other elements, at the volume where the closest pair is about a sum of covalent radii apart."""
    atoms = prototype.copy()
    atoms.symbols = [cation if old == old_cation else anion for old in prototype.get_chemical_symbols()]
    bonds = np.clip(closest_pair(prototype), *BOND_RANGE) / closest_pair(atoms)
    scale = max(bonds, np.cbrt(MIN_VOLUME * len(atoms) / atoms.get_volume()))
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    return atoms


def closest_pair(atoms: Atoms) -> float:
    """The shortest distance between two atoms in units of the sum of their covalent radii."""
    centers, neighbors, distances = neighbor_list("ijd", atoms, 6.0)
    symbols = atoms.get_chemical_symbols()
    return min(
        distance / sum_of_radii(symbols[i], symbols[j])
        for i, j, distance in zip(centers, neighbors, distances, strict=True)
    )
