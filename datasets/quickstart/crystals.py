"""3D crystals: AFLOW prototypes with their elements replaced by chemically similar ones."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from building import ELEMENTS, chemical_distance, push_off_equilibrium, sum_of_radii
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

MAX_SITES = 8
SIMILARITY = 8.0
"""Width of the Gaussian in Mendeleev numbers by which a replacement is drawn."""
BALANCE = 1.5
"""An element that was drawn n times is favoured by 1 / (1 + n) to this power."""
CLOSEST_PAIR = (0.88, 1.25)
"""Bounds of the shortest distance in sums of covalent radii: outside lie high-pressure phases and errors."""
MIN_VOLUME = 5.5
"""A^3 an atom, about diamond's: hydrogen in place of carbon would start denser, and collapse."""


def build_crystals(n_materials: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Distinct (prototype, elements) pairs, pushed off equilibrium; small cells and compounds favoured."""
    prototypes = small_prototypes()
    weights = np.array([len(set(atoms.numbers)) ** 0.5 / (2 + len(atoms)) for atoms in prototypes.values()])
    used: Counter[str] = Counter()
    made: set[str] = set()
    while len(made) < n_materials:
        name = list(prototypes)[rng.choice(len(prototypes), p=weights / weights.sum())]
        atoms = substitute(prototypes[name], used, rng)
        label = f"{name} as {atoms.get_chemical_formula()}"
        if label in made:
            continue
        made.add(label)
        used.update(set(atoms.get_chemical_symbols()))
        yield push_off_equilibrium(atoms, rng)


def small_prototypes() -> dict[str, Atoms]:
    """Name -> primitive cell of every AFLOW prototype with at most MAX_SITES atoms."""
    prototypes = {}
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure = entry["snl"].structure
        if len(structure) <= MAX_SITES:
            name = f"{entry['tags']['aflow']} {structure.reduced_formula}"
            prototypes[name] = structure.to_ase_atoms(msonable=False)
    return prototypes


def substitute(prototype: Atoms, used: Counter, rng: np.random.Generator) -> Atoms:
    """Each element replaced by one that is alike, the volume scaled so that the closest pair keeps its distance
    in units of its covalent radii."""
    chosen: dict[str, str] = {}
    for old in dict.fromkeys(prototype.get_chemical_symbols()):
        free = [symbol for symbol in ELEMENTS if symbol not in chosen.values()]
        weights = [
            np.exp(-0.5 * (chemical_distance(old, new) / SIMILARITY) ** 2) / (1 + used[new]) ** BALANCE for new in free
        ]
        chosen[old] = free[rng.choice(len(free), p=np.array(weights) / sum(weights))]
    atoms = prototype.copy()
    atoms.symbols = [chosen[old] for old in prototype.get_chemical_symbols()]
    target = np.clip(closest_pair(prototype), *CLOSEST_PAIR)
    scale = max(target / closest_pair(atoms), np.cbrt(MIN_VOLUME * len(atoms) / atoms.get_volume()))
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
