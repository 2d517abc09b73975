"""Structures that nobody has published: prototypes with other elements, elements in many packings, surfaces, vacancies,
layers, chains, molecules, dimers and single atoms.

They show a potential what it has no example of otherwise: every element beside every other one, at each coordination.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

import ase.build
import numpy as np
from ase import Atoms
from ase.collections import g2
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from parents import Parent, with_vacuum
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
from scipy.optimize import nnls

MOST_ATOMS = 10
"""Atoms of a prototype that gets other elements."""
PACKINGS = ("fcc", "bcc", "sc", "hcp", "diamond")


class AtomicVolumes:
    """Volume of a crystal as a sum over its atoms, A^3, fitted to real crystals."""

    def __init__(self, crystals: Sequence[Atoms]):
        counts = np.zeros((len(crystals), 119))
        for row, atoms in zip(counts, crystals, strict=True):
            np.add.at(row, atoms.numbers, 1)
        volumes = np.array([atoms.get_volume() for atoms in crystals])
        weights = 1 / counts.sum(axis=1)
        fitted, _ = nnls(counts * weights[:, None], volumes * weights)
        seen = (counts > 0).sum(axis=0) >= 5
        cubes = covalent_radii[:119] ** 3
        per_cube = np.median(fitted[seen] / cubes[seen])
        self.of_element = np.where(seen & (fitted > 3), fitted, np.maximum(per_cube * cubes, 5.0))

    def of(self, atoms: Atoms) -> float:
        """Sum over the atoms."""
        return float(self.of_element[atoms.numbers].sum())


def substituted(
    prototypes: Sequence[Atoms], elements: Sequence[int], volumes: AtomicVolumes, count: int, rng: np.random.Generator
) -> Iterator[Parent]:
    """Prototypes with random elements on each of their species, at the volume that the elements have elsewhere."""
    for k in range(count):
        atoms = prototypes[rng.integers(len(prototypes))].copy()
        _replace_elements(atoms, elements, rng)
        atoms.set_cell(atoms.cell * (volumes.of(atoms) / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
        yield Parent(f"prototype-{k:06d}-{atoms.get_chemical_formula()}", atoms, "crystal")


def substituted_layers(
    layers: Sequence[Atoms], elements: Sequence[int], count: int, rng: np.random.Generator
) -> Iterator[Parent]:
    """Layers with random elements, their lengths scaled with the mean covalent radius."""
    for k in range(count):
        atoms = layers[rng.integers(len(layers))].copy()
        before = covalent_radii[atoms.numbers].mean()
        _replace_elements(atoms, elements, rng)
        atoms.set_cell(atoms.cell * (covalent_radii[atoms.numbers].mean() / before), scale_atoms=True)
        yield Parent(f"layer-{k:06d}-{atoms.get_chemical_formula()}", with_vacuum(atoms, 2), "layer")


def _replace_elements(atoms: Atoms, elements: Sequence[int], rng: np.random.Generator) -> None:
    old = np.unique(atoms.numbers)
    new = rng.choice(elements, len(old), replace=False)
    atoms.numbers = new[np.searchsorted(old, atoms.numbers)]


def alike(
    prototypes: Sequence[Atoms], elements: Sequence[int], volumes: AtomicVolumes, count: int, rng: np.random.Generator
) -> Iterator[Parent]:
    """Prototypes whose elements are replaced by others of their kind: oxides stay oxides, of other metals.

    The volume goes with the sum of the atomic volumes, times a random factor near one.
    """
    kinds = [np.intersect1d(known_to(kind.split()), elements) for kind in ALIKE]
    for k in range(count):
        prototype = prototypes[rng.integers(len(prototypes))]
        atoms, taken = prototype.copy(), set()
        for old in np.unique(prototype.numbers):
            choices = [z for kind in kinds if old in kind for z in kind if z not in taken] or [old]
            new = int(old) if rng.uniform() < 0.2 and old not in taken else int(rng.choice(choices))
            taken.add(new)
            atoms.numbers[prototype.numbers == old] = new
        if not set(atoms.numbers) <= set(elements):
            continue  # an element without another of its kind, which the teacher lacks
        ratio = volumes.of(atoms) / volumes.of(prototype) * rng.uniform(0.95, 1.05)
        atoms.set_cell(atoms.cell * ratio ** (1 / 3), scale_atoms=True)
        yield Parent(f"alike-{k:06d}-{atoms.get_chemical_formula()}", atoms, "crystal")


ALIKE = (
    "H Li Na K Rb Cs Cu Ag Tl",
    "Be Mg Ca Sr Ba Zn Cd Hg Eu Yb Pb Sn",
    "Sc Y La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Ac Th Pa U Np Pu Bi",
    "Ti V Cr Mn Fe Co Ni Cu Zn Mg Al Ga In",
    "Ti Zr Hf V Nb Ta Cr Mo W Mn Tc Re Ru Os Rh Ir Pd Pt Au",
    "Al Ga In Si Ge Sn B C",
    "B C N P As Sb S Si Se Te",
    "O S Se Te",
    "F Cl Br I",
    "N P As Sb Bi",
    "He Ne Ar Kr Xe",
)
"""Elements that take one another's places; one may be of several kinds."""


def prototypes_of_aflow(most_atoms: int = MOST_ATOMS) -> list[Atoms]:
    """Primitive cells of the prototypes that pymatgen ships."""
    found = []
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure = entry["snl"].structure
        if structure.is_ordered and len(structure) <= 8 * most_atoms:
            primitive = structure.get_primitive_structure()
            if len(primitive) <= most_atoms:
                found.append(primitive.to_ase_atoms(msonable=False))
    return found


def elemental(elements: Sequence[int], volumes: AtomicVolumes) -> Iterator[Parent]:
    """Each element in each packing; with a vacancy; and as slabs of each with a surface."""
    for z in elements:
        symbol, volume = chemical_symbols[z], volumes.of_element[z]
        for packing in PACKINGS:
            atoms = _packed(symbol, packing, volume)
            yield Parent(f"element-{symbol}-{packing}", atoms, "crystal")
        for packing in ("fcc", "bcc"):
            large = _packed(symbol, packing, volume).repeat(2)
            del large[0]
            yield Parent(f"vacancy-{symbol}-{packing}", large, "crystal")
            a = (volume * {"fcc": 4, "bcc": 2}[packing]) ** (1 / 3)
            cut = ase.build.fcc111 if packing == "fcc" else ase.build.bcc110
            slab = cut(symbol, size=(1, 1, 4), a=a, vacuum=VACUUM_OF_SLAB, periodic=True)
            yield Parent(f"slab-{symbol}-{packing}", slab, "slab")
        chain = Atoms(symbol, cell=[2.1 * covalent_radii[z], VACUUM_OF_SLAB * 2, VACUUM_OF_SLAB * 2], pbc=True)
        yield Parent(f"row-{symbol}", chain, "chain")


VACUUM_OF_SLAB = 7.5
"""A on either side."""


def _packed(symbol: str, packing: str, volume: float) -> Atoms:
    atoms = ase.build.bulk(symbol, packing, a=3.0, **({"c": 3.0 * np.sqrt(8 / 3)} if packing == "hcp" else {}))
    atoms.set_cell(atoms.cell * (volume * len(atoms) / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
    return atoms


def slabs(crystals: Sequence[Atoms], count: int, rng: np.random.Generator) -> Iterator[Parent]:
    """Crystals cut between two of their planes along c, as they are: unrelaxed surfaces of compounds."""
    for k in range(count):
        atoms = crystals[rng.integers(len(crystals))].copy()
        atoms.pbc = True
        atoms.set_scaled_positions(atoms.get_scaled_positions() + np.array([0, 0, rng.uniform()]))
        atoms.wrap()
        cell = atoms.cell.array
        normal = np.cross(cell[0], cell[1])
        cell[2] += normal / np.linalg.norm(normal) * 2 * VACUUM_OF_SLAB
        atoms.set_cell(cell, scale_atoms=False)
        yield Parent(f"cut-{k:06d}-{atoms.get_chemical_formula()}", _turned(atoms), "slab")


def _turned(atoms: Atoms) -> Atoms:
    """With a along x and b in the plane of x and y: the directions that a layer is strained in."""
    turned = atoms.copy()
    cell, _ = atoms.cell.standard_form()
    turned.set_cell(cell, scale_atoms=True)
    return turned


def chains(elements: Sequence[int], count: int, rng: np.random.Generator) -> Iterator[Parent]:
    """Straight and zigzag chains of two elements."""
    for k in range(count):
        pair = rng.choice(elements, 2)
        bond = covalent_radii[pair].sum() * rng.uniform(0.95, 1.15)
        angle = np.radians(rng.uniform(90, 180))
        half, height = bond * np.sin(angle / 2), bond * np.cos(angle / 2)
        cell = [2 * half, 2 * VACUUM_OF_SLAB + height, 2 * VACUUM_OF_SLAB]
        atoms = Atoms(pair, [[0, 0, 0], [half, height, 0]], cell=cell, pbc=True)
        yield Parent(f"chain-{k:06d}-{atoms.get_chemical_formula()}", atoms, "chain")


def molecules() -> Iterator[Parent]:
    """The molecules of the G2 set that ASE has, without a cell."""
    for name in g2.names:
        atoms = g2[name].copy()
        atoms.pbc = False
        yield Parent(f"molecule-{name}", atoms, "molecule")


def single_atoms(elements: Sequence[int]) -> Iterator[Parent]:
    """Each element by itself."""
    for z in elements:
        yield Parent(f"atom-{chemical_symbols[z]}", Atoms([z], [[0, 0, 0]]), "molecule")


def dimers(elements: Sequence[int], range_: tuple[float, float], rng: np.random.Generator) -> Iterator[Parent]:
    """Each pair of elements at a distance within a range of sums of covalent radii."""
    for pair in combinations_with_replacement(elements, 2):
        distance = rng.uniform(*range_) * covalent_radii[list(pair)].sum()
        atoms = Atoms(pair, [[0, 0, 0], [distance, 0, 0]])
        yield Parent(f"dimer-{'-'.join(chemical_symbols[z] for z in pair)}", atoms, "molecule")


def known_to(symbols: Sequence[str]) -> list[int]:
    """Atomic numbers of symbols, ascending."""
    return sorted(atomic_numbers[symbol] for symbol in symbols)
