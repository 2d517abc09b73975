"""Chains built from tabulated geometries, with the experimental repeat lengths of the crystals that contain them."""

from typing import NamedTuple

import numpy as np
from ase import Atoms

VACUUM = 15.0
"""Vacuum around a chain, A, as in ALEXANDRIA."""


class Chain(NamedTuple):
    """A chain along x, in its geometry in a crystal."""

    name: str
    repeat: float
    """Experimental repeat length in the crystal, A."""
    symbols: list[str]
    sites: list[tuple[float, float, float]]
    """Site coordinates: fraction of the repeat along the chain, and A across."""

    def atoms(self) -> Atoms:
        width = np.ptp(np.array(self.sites)[:, 1:], axis=0) + VACUUM
        positions = np.array(self.sites) * [self.repeat, 1, 1] + [0, *(width / 2)]
        atoms = Atoms(self.symbols, positions, cell=[self.repeat, *width], pbc=True)
        atoms.info = {"material_id": f"chain-{self.name}", "functional": "experiment", "dimensionality": "1D"}
        return atoms


def _helix(name: str, element: str, repeat: float, radius: float) -> Chain:
    """A helix with three atoms per turn."""
    sites = [(k / 3, radius * np.cos(2 * np.pi * k / 3), radius * np.sin(2 * np.pi * k / 3)) for k in range(3)]
    return Chain(name, repeat, [element] * 3, sites)


def _tetrahedra(name: str, metal: str, anion: str, repeat: float, bond: float) -> Chain:
    """A chain of edge-sharing tetrahedra, whose shared edges alternate between y and z."""
    h = (bond**2 - (repeat / 4) ** 2) ** 0.5
    sites = [(0, 0, 0), (0.5, 0, 0), (0.25, h, 0), (0.25, -h, 0), (0.75, 0, h), (0.75, 0, -h)]
    return Chain(name, repeat, [metal] * 2 + [anion] * 4, sites)


def _squares(name: str, metal: str, anion: str, repeat: float, bond: float) -> Chain:
    """A ribbon of edge-sharing squares."""
    h = (bond**2 - (repeat / 2) ** 2) ** 0.5
    return Chain(name, repeat, [metal] + [anion] * 2, [(0, 0, 0), (0.5, h, 0), (0.5, -h, 0)])


CHAINS = (
    _helix("Se", "Se", 4.954, 0.984),
    _helix("Te", "Te", 5.927, 1.173),
    _tetrahedra("SiS2", "Si", "S", 5.547, 2.14),
    _tetrahedra("BeCl2", "Be", "Cl", 5.26, 2.02),
    _squares("PdCl2", "Pd", "Cl", 3.34, 2.31),
    _squares("CuCl2", "Cu", "Cl", 3.30, 2.263),
    Chain(
        "polyethylene",
        2.534,
        ["C"] * 2 + ["H"] * 4,
        [(0, 0.43, 0), (0.5, -0.43, 0), (0, 1.06, 0.89), (0, 1.06, -0.89), (0.5, -1.06, 0.89), (0.5, -1.06, -0.89)],
    ),
    Chain(
        "trans-polyacetylene",
        2.455,
        ["C", "C", "H", "H"],
        [(0, 0.33, 0), (0.53, -0.33, 0), (-0.01, 1.42, 0), (0.54, -1.42, 0)],
    ),
    Chain("HF", 4.26, ["F", "F", "H", "H"], [(0, 0.65, 0), (0.5, -0.65, 0), (0.19, 0.16, 0), (0.69, -0.16, 0)]),
)
"""Repeats of the crystals: Se, Te (trigonal, c), SiS2, BeCl2 (Ibam, c), PdCl2 (Pnnm, b), CuCl2 (C2/m, b), orthorhombic
polyethylene (c), trans-polyacetylene (c), HF (Cmc2_1, b). Coordinates across the chain are approximate."""
