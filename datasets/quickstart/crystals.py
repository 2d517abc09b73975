"""3D crystals: chemical systems of a cation and an anion, each in several of the AFLOW prototypes.

As in ALEXANDRIA, a system comes with competing stoichiometries and polymorphs, most of them not its ground state:
what a potential learns of a bond in one of them it can use in another, which is what held-out materials test.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from building import elements, push_off_equilibrium, sum_of_radii
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

ANIONS = {
    "Li Na K Rb Cs Cu Ag Au Tl": elements("F Cl Br I O S Se H"),
    "Be Mg Ca Sr Ba Zn Cd Mn": elements("O S Se Te F Cl H N"),
    "Sc Y La Al Ga In B": elements("N P As O S F C H"),
    "Ti Zr Hf V Nb Ta Cr Mo W Re": elements("C N O S Se Te B P"),
    "Fe Ru Os Co Rh Ir Ni Pd Pt": elements("S Se Te As P O Cl I B"),
    "Si Ge Sn Pb Sb Bi": elements("C N P S Se Te Br I"),
}
"""Cations of a kind -> the anions that they may be given."""
SYSTEMS_PER_CATION = 2
TYPES_PER_SYSTEM = 6
METAL_TYPES_PER_ELEMENT = 2

COMPOUND_TYPES = {
    "AB_cF8_225_a_b NaCl": "Na",
    "AB_cP2_221_b_a CsCl": "Cs",
    "AB_cF8_216_c_a ZnS": "Zn",
    "AB_hP4_186_b_b ZnS": "Zn",
    "AB_hP4_194_c_a NiAs": "Ni",
    "AB_hP2_187_d_a WC": "W",
    "AB_tP4_129_a_c PbO": "Pb",
    "AB_tI8_141_a_b NbP": "Nb",
    "AB_tP4_131_c_e PtS": "Pt",
    "AB_oC8_63_c_c CrB": "Cr",
    "AB2_cF12_225_a_c CaF2": "Ca",
    "AB2_hP3_164_a_d CdI2": "Cd",
    "AB2_oP6_58_a_g CaCl2": "Ca",
    "AB2_hP6_194_c_f MoS2": "Mo",
    "A2B_tP6_136_f_a TiO2": "Ti",
    "A2B_tI12_141_e_a TiO2": "Ti",
    "A2B_cP6_224_b_a Cu2O": "Cu",
    "A3B_cP4_221_d_a ReO3": "Re",
    "AB3_cF16_225_a_bc BiF3": "Bi",
    "A3B_hP4_191_bc_a Li3N": "Li",
}
"""AFLOW prototype of a binary compound -> which of its elements is the cation."""
METAL_TYPES = ["A_cF4_225_a Cu", "A_cI2_229_a W", "A_hP2_194_c Mg", "A_tI4_141_a Sn"]
"""AFLOW prototypes of an element."""

BOND_RANGE = (0.95, 1.15)
"""Bounds of the shortest distance in sums of covalent radii."""
MIN_VOLUME = 5.5
"""A^3 an atom, about diamond's: small atoms in a dense prototype would start too dense, and collapse."""


def build_crystals(n_materials: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """The first materials of a random order, pushed off equilibrium."""
    prototypes = aflow_prototypes()
    chosen = [*compounds(rng), *metals(rng)]
    for k in rng.permutation(len(chosen))[:n_materials]:
        name, cation, anion = chosen[k]
        yield push_off_equilibrium(substitute(prototypes[name], COMPOUND_TYPES.get(name), cation, anion), rng)


def compounds(rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    """(prototype, cation, anion) of every system; anions are given out evenly."""
    used: Counter[str] = Counter()
    for cations, anions in ANIONS.items():
        for cation in elements(cations):
            for anion in sorted(rng.permutation(anions).tolist(), key=used.__getitem__)[:SYSTEMS_PER_CATION]:
                used[anion] += 1
                for name in rng.choice(list(COMPOUND_TYPES), TYPES_PER_SYSTEM, replace=False).tolist():
                    yield name, cation, anion


def metals(rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    """(prototype, element, element) of every cation's elemental crystals."""
    for cations in ANIONS:
        for cation in elements(cations):
            for name in rng.choice(METAL_TYPES, METAL_TYPES_PER_ELEMENT, replace=False).tolist():
                yield name, cation, cation


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
