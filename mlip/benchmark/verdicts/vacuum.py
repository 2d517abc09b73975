"""Layers and chains in the setting of the group's relaxation code (repository hyllios/utils, benchmark_ph/umlip.py): a
layer is periodic along a and b, a chain along c, in a fully periodic cell with 15 A of vacuum.

A layer gets c = thickness + 15 A along its normal; a chain a hexagonal cell with a = 15 A + the largest distance of an
atom from its axis. Their code splits a layer at the cell's boundary if it is thicker than half the cell, and measures
chains by wrapped positions; here the largest gap is the vacuum, wherever it lies.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from jaxtyping import Bool, Float, Int

from mlip.data.low_dimensional import unwrapped

VACUUM = 15.0
"""Vacuum between periodic images, A."""
_AXIS = {2: np.array([True, True, False]), 1: np.array([False, False, True])}
"""Whether a layer (2) or a chain (1) is periodic along each cell vector in this setting."""
_UPRIGHT = np.sin(np.radians(0.01))
"""Sine of the largest tilt against z: beyond 0.01 degrees of its normal or c, a layer is rotated."""


@dataclass(frozen=True)
class Setting:
    """The transformation from a structure's own axes to the setting, and back."""

    directions: Bool[np.ndarray, " 3"]
    """Whether the structure is periodic along each of its own cell vectors, vacuum excluded."""
    order: Int[np.ndarray, " 3"]
    """Indices of the structure's cell vectors in the order of the setting."""
    rotation: Float[np.ndarray, "3 3"]
    """Rotation Q from the structure's Cartesian axes to the setting's; row vectors transform as r Q."""
    pbc: Bool[np.ndarray, " 3"]

    @classmethod
    def of(cls, atoms: Atoms, directions: Bool[np.ndarray, " 3"]) -> "Setting":
        """The transformation for a structure. A layer (two `directions`) keeps its axes and only reorders cell vectors,
        a chain (one) is rotated along z, and a crystal stays unchanged."""
        directions = np.asarray(directions, bool)
        periodic, other = np.flatnonzero(directions), np.flatnonzero(~directions)
        order = np.concatenate([other, periodic] if len(periodic) == 1 else [periodic, other])
        rotation = np.eye(3)
        if len(periodic) == 1:
            cell = complete_cell(atoms.cell)[order]
            z = cell[2] / np.linalg.norm(cell[2])
            x = cell[0] - (cell[0] @ z) * z
            x /= np.linalg.norm(x)
            rotation = np.stack([x, np.cross(z, x), z], axis=1)
        return cls(directions, order, rotation, atoms.pbc.copy())

    def enter(self, atoms: Atoms) -> Atoms:
        """The structure in the setting, fully periodic; its vacuum is unchanged."""
        cell = complete_cell(atoms.cell)[self.order] @ self.rotation
        return Atoms(atoms.numbers, atoms.positions @ self.rotation, cell=cell, pbc=True)

    def leave(self, atoms: Atoms) -> Atoms:
        """A structure in the setting, transformed back to its original axes and pbc; its vacuum is unchanged."""
        back = np.argsort(self.order)
        cell = (atoms.cell.array @ self.rotation.T)[back]
        return Atoms(atoms.numbers, atoms.positions @ self.rotation.T, cell=cell, pbc=self.pbc)


def gathered(atoms: Atoms, dimensionality: int) -> Atoms:
    """A structure in the setting, unwrapped across its vacuum; a layer's normal is rotated to z."""
    moved = atoms.copy()
    if dimensionality == 3:
        return moved
    moved.positions = unwrapped(atoms.positions, atoms.cell.array, ~_AXIS[dimensionality])
    return _upright(moved) if dimensionality == 2 else moved


def _upright(atoms: Atoms) -> Atoms:
    """The layer, rotated to a along x and its plane in xy if its normal or c is tilted; then c is along z."""
    a, b, c = atoms.cell.array
    normal = np.cross(a, b) / np.linalg.norm(np.cross(a, b))
    tilted = np.hypot(*normal[:2]) > _UPRIGHT or np.hypot(*c[:2]) > _UPRIGHT * np.linalg.norm(c)
    if not tilted:
        return atoms
    x = a / np.linalg.norm(a)
    rotation = np.stack([x, np.cross(normal, x), normal], axis=1)
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation
    turned.set_cell([a @ rotation, b @ rotation, [0, 0, np.linalg.norm(c)]])
    return turned


def extents(atoms: Atoms, dimensionality: int) -> Float[np.ndarray, " k"]:
    """Extents of a gathered structure across its vacuum, A: a layer's thickness, or a chain's widths along x and y."""
    across = {3: [], 2: [2], 1: [0, 1]}[dimensionality]
    return np.ptp(atoms.positions[:, across], axis=0)


def with_vacuum(atoms: Atoms, dimensionality: int) -> Atoms:
    """A gathered structure in the middle of its cell, with the vacuum set to 15 A; crystals are unchanged."""
    if dimensionality == 3:
        return atoms
    moved, cell = atoms.copy(), atoms.cell.array.copy()
    if dimensionality == 2:
        cell[2] = [0, 0, extents(atoms, 2)[0] + VACUUM]
        across, middle = slice(2, 3), cell[2, 2:] / 2
    else:
        from_axis = atoms.positions[:, :2] - atoms.positions[:, :2].mean(axis=0)
        a = VACUUM + np.linalg.norm(from_axis, axis=1).max()
        cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, cell[2, 2]]])
        across, middle = slice(0, 2), (cell[0, :2] + cell[1, :2]) / 2
    moved.positions[:, across] += middle - moved.positions[:, across].mean(axis=0)
    moved.set_cell(cell)
    return moved
