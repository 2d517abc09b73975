"""2D layers: the common monolayer types, each decorated with elements that form it or nearly do.

Every builder gives a free layer, periodic in a and b, whose bonds are `LENGTHENING` sums of covalent radii.
"""

from collections.abc import Iterator
from itertools import islice, product

import numpy as np
from ase import Atoms
from building import METALS, Families, deal, elements, pairs, push_off_equilibrium, sum_of_radii

LENGTHENING = 1.04


def build_layers(n_materials: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """One layer of each family in turn, pushed off equilibrium in the plane."""
    for atoms in islice(deal(FAMILIES, rng), n_materials):
        yield push_off_equilibrium(atoms, rng, directions=2)


def bond(*symbols: str) -> float:
    return LENGTHENING * sum_of_radii(*symbols)


def layer(symbols: list[str], fractions: list, heights: list, a: float, b: float, gamma: float) -> Atoms:
    """Atoms at in-plane fractional coordinates and heights (A); a, b in A, gamma in degrees."""
    angle = np.radians(gamma)
    vectors = np.array([[a, 0.0, 0.0], [b * np.cos(angle), b * np.sin(angle), 0.0]])
    positions = np.array(fractions) @ vectors
    positions[:, 2] = heights
    return Atoms(symbols, positions=positions, cell=[*vectors, [0, 0, 0]], pbc=(True, True, False))


def honeycomb(x: str, y: str) -> Atoms:
    """Graphene and h-BN; buckled like silicene for elements beyond the second row."""
    d = bond(x, y)
    buckling = 0.0 if d < 1.7 else 0.25 * d
    a = np.sqrt(3 * (d**2 - buckling**2))
    return layer([x, y], [(1 / 3, 2 / 3), (2 / 3, 1 / 3)], [0, buckling], a, a, 120)


def trigonal_prism_1h(m: str, x: str) -> Atoms:
    """1H-MX2, as MoS2."""
    a, height = 1.32 * bond(m, x), 0.65 * bond(m, x)
    sites = [(1 / 3, 2 / 3), (2 / 3, 1 / 3), (2 / 3, 1 / 3)]
    return layer([m, x, x], sites, [0, height, -height], a, a, 120)


def octahedron_1t(m: str, x: str) -> Atoms:
    """1T-MX2, as CdI2; with the cation outside, as in the MXene Ti2C, give the anion first."""
    a, height = 1.41 * bond(m, x), 0.58 * bond(m, x)
    return layer([m, x, x], [(0, 0), (1 / 3, 2 / 3), (2 / 3, 1 / 3)], [0, height, -height], a, a, 120)


def lead_oxide(m: str, x: str) -> Atoms:
    """Tetragonal MX, as PbO and FeSe: a flat square sheet between two of the other kind."""
    a, height = 1.6 * bond(m, x), 0.6 * bond(m, x)
    sites = [(0, 0), (0.5, 0.5), (0.5, 0), (0, 0.5)]
    return layer([m, m, x, x], sites, [0, 0, height, -height], a, a, 90)


def phosphorene(x: str, y: str) -> Atoms:
    """Puckered: black phosphorus, SnSe."""
    d = bond(x, y)
    u, half = 0.085, 0.5 * d
    sites = [(u, 0), (0.5 - u, 0.5), (0.5 + u, 0.5), (1 - u, 0)]
    return layer([x, y, x, y], sites, [half, half, -half, -half], 1.98 * d, 1.48 * d, 90)


def matlockite(m: str, x: str, y: str) -> Atoms:
    """MXY, as one layer of BiOCl: a flat oxygen sheet, metals about it, halogens outside."""
    a = 1.62 * bond(m, x)
    z_metal = np.sqrt(max(bond(m, x) ** 2 - a**2 / 4, 0.5))
    z_outer = z_metal + np.sqrt(max((1.12 * bond(m, y)) ** 2 - a**2 / 2, 1.5))
    sites = [(0, 0), (0.5, 0.5), (0.5, 0), (0, 0.5), (0, 0.5), (0.5, 0)]
    return layer([x, x, m, m, y, y], sites, [0, 0, z_metal, -z_metal, z_outer, -z_outer], a, a, 90)


def hexagonal_sheet(x: str) -> Atoms:
    """A close-packed sheet of one element, as goldene."""
    return layer([x], [(0, 0)], [0], bond(x, x), bond(x, x), 120)


FAMILIES: Families = {
    honeycomb: [
        ("C", "C"),
        ("Si", "C"),
        ("Ge", "C"),
        *pairs("B Al Ga In", "N P As"),
        *pairs("Zn Cd Mg Ca", "O S Se Te"),
        *pairs("Li Na K", "F Cl Br I"),
    ],
    trigonal_prism_1h: pairs("Mg Ca Sr Ba Zn Cd Sc Y La", "Cl Br I S Se Te"),
    octahedron_1t: pairs("Mg Ca Sr Ba Zn Cd", "F Cl Br I") + pairs("Sc Y La", "O S Se Te"),
    lead_oxide: pairs("Li Na K Rb", "F Cl Br I") + pairs("Mg Ca Sr Ba Zn Cd", "O S Se Te"),
    phosphorene: [("P", "P"), ("As", "As"), *pairs("Mg Ca Zn Cd", "S Se Te")],
    matlockite: list(product(elements("La Y Sc"), ["O"], elements("F Cl Br I")))
    + list(product(elements("Ba Sr Ca"), ["F"], elements("Cl Br I"))),
    hexagonal_sheet: [(x,) for x in METALS],
}
