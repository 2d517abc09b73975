"""1D chains: rows, zigzags, helices and rods of polyhedra, decorated with elements that form them or nearly do.

Every builder gives a free chain along a, whose bonds are layers.LENGTHENING sums of covalent radii.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from ase import Atoms
from building import METALS, Families, deal, elements, pairs, push_off_equilibrium
from layers import bond


def build_chains(n_materials: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """One chain of each family in turn, pushed off equilibrium along a."""
    for atoms in islice(deal(FAMILIES, rng), n_materials):
        yield push_off_equilibrium(atoms, rng, directions=1)


def chain(symbols: list[str], positions: list, length: float) -> Atoms:
    """Atoms at Cartesian positions (A), repeated every `length` along a."""
    cell = [[length, 0, 0], [0, 0, 0], [0, 0, 0]]
    return Atoms(symbols, positions=positions, cell=cell, pbc=(True, False, False))


def row(x: str, y: str) -> Atoms:
    """X-Y-X-Y on a line, as cumulene and AuI."""
    d = bond(x, y)
    return chain([x, y], [(0, 0, 0), (d, 0, 0)], 2 * d)


def zigzag(x: str, y: str, angle: float = 100.0) -> Atoms:
    """X-Y-X-Y bent at each atom, as polymeric sulfur and TlCl."""
    d, half = bond(x, y), np.radians(angle / 2)
    return chain([x, y], [(0, 0, 0), (d * np.sin(half), d * np.cos(half), 0)], 2 * d * np.sin(half))


def helix(x: str) -> Atoms:
    """Three atoms a turn, as gray selenium: angles of 103 degrees."""
    d = bond(x, x)
    radius, rise = 0.41 * d, 0.70 * d
    turns = 2 * np.pi * np.arange(3) / 3
    positions = [(rise * k, radius * np.cos(turn), radius * np.sin(turn)) for k, turn in enumerate(turns)]
    return chain([x] * 3, positions, 3 * rise)


def ladder(x: str, y: str) -> Atoms:
    """Two rows side by side, X opposite Y."""
    d = bond(x, y)
    return chain([x, y, y, x], [(0, 0, 0), (d, 0, 0), (0, d, 0), (d, d, 0)], 2 * d)


def tetrahedra(m: str, x: str) -> Atoms:
    """MX2 of tetrahedra that share edges, as SiS2 and BeCl2."""
    d = bond(m, x)
    along, across = 0.6 * d, 0.8 * d
    positions = [
        (0, 0, 0),
        (2 * along, 0, 0),
        (along, across, 0),
        (along, -across, 0),
        (3 * along, 0, across),
        (3 * along, 0, -across),
    ]
    return chain([m, m, x, x, x, x], positions, 4 * along)


def octahedra(m: str, x: str) -> Atoms:
    """MX3 of octahedra that share faces, as ZrI3 and the rods of BaTiS3."""
    d = bond(m, x)
    rise, radius = 0.60 * d, 0.80 * d
    metals = [(0, 0, 0), (2 * rise, 0, 0)]
    angles = np.radians([0, 120, 240])
    anions = [
        (height, radius * np.cos(angle + twist), radius * np.sin(angle + twist))
        for height, twist in ((rise, 0), (3 * rise, np.pi))
        for angle in angles
    ]
    return chain([m] * 2 + [x] * 6, metals + anions, 4 * rise)


FAMILIES: Families = {
    row: [(x, x) for x in METALS] + [("C", "C")],
    zigzag: [(x, x) for x in METALS] + [("S", "S"), ("Se", "Se"), ("Te", "Te")],
    helix: [(x,) for x in elements("S Se Te P As")],
    ladder: pairs("Li Na K Rb Cs", "F Cl Br I") + pairs("Mg Ca Sr Ba Zn Cd", "O S Se Te"),
    tetrahedra: pairs("Mg Ca Sr Ba Zn Cd", "F Cl Br I"),
    octahedra: pairs("La Y Sc", "F Cl Br I"),
}
