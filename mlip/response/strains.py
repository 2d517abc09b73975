"""Strains that are applied to a crystal, those among them that its point group makes equal, and the tensor's frame.

A strain is a Green-Lagrange tensor E; the cell is deformed by F with F^T F = 1 + 2 E. On the device F is the symmetric
root, which no rotation of the axes spoils. The stress that is fitted is the Cauchy stress for the upper triangular F,
as in pymatgen and the Materials Project: the same crystal, turned.
"""

from dataclasses import dataclass

import numpy as np
import spglib
from ase import Atoms
from jaxtyping import Float, Int

from mlip.units import VOIGT

_SYMMETRY_TOLERANCE = 1e-3
"""A; files and relaxations leave atoms off their places by less."""
_SAME_STRAIN = 1e-5


@dataclass(frozen=True)
class Strains:
    """Strains of a tensor: pattern by pattern (xx yy zz yz xz xy), value by value."""

    patterns: Int[np.ndarray, " k"]
    """Which of the six components."""
    values: Float[np.ndarray, " k"]
    """Values of the tensor's component: half of the engineering strain for yz, xz and xy."""

    @classmethod
    def of(cls, normal: tuple[float, ...], shear: tuple[float, ...]) -> "Strains":
        counts = [len(normal)] * 3 + [len(shear)] * 3
        return cls(np.repeat(np.arange(6), counts), np.concatenate([normal] * 3 + [shear] * 3))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def tensors(self) -> Float[np.ndarray, "k 3 3"]:
        """E of each."""
        tensors = np.zeros((len(self), 3, 3))
        for tensor, pattern, value in zip(tensors, self.patterns, self.values, strict=True):
            i, j = VOIGT[pattern]
            tensor[i, j] = tensor[j, i] = value
        return tensors

    @property
    def engineering(self) -> Float[np.ndarray, " k"]:
        """The value of each in Voigt's notation."""
        return np.where(self.patterns < 3, 1.0, 2.0) * self.values

    def name(self, k: int) -> str:
        """Name of a strain: xy -1 %."""
        return f"{('xx', 'yy', 'zz', 'yz', 'xz', 'xy')[self.patterns[k]]} {100 * self.values[k]:+g} %"


def stretch(strain: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """The symmetric F of a strain."""
    squares, axes = np.linalg.eigh(np.eye(3) + 2 * strain)
    return (axes * np.sqrt(squares)) @ axes.T


def in_frame_of_upper(stress: Float[np.ndarray, "3 3"], strain: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Stress at the symmetric F of a strain -> stress at its upper triangular F."""
    upper = np.linalg.cholesky(np.eye(3) + 2 * strain).T
    rotation = upper @ np.linalg.inv(stretch(strain))
    return rotation @ stress @ rotation.T


def point_group(atoms: Atoms) -> Float[np.ndarray, "k 3 3"]:
    """Orthogonal matrices of a crystal's point group, Cartesian, x -> Q x; the identity alone if spglib finds none."""
    found = spglib.get_symmetry(
        (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=_SYMMETRY_TOLERANCE
    )
    if found is None:
        return np.eye(3)[None]
    columns = atoms.cell.array.T
    matrices = columns @ np.unique(found["rotations"], axis=0) @ np.linalg.inv(columns)
    left, _, right = np.linalg.svd(matrices)  # the nearest rotations, where the cell is symmetric but for rounding
    return left @ right


def representatives(
    strains: Float[np.ndarray, "k 3 3"], group: Float[np.ndarray, "g 3 3"]
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k 3 3"]]:
    """For each strain the first one that an operation of the group takes to it, and the operation: E = Q E' Q^T."""
    chosen = np.arange(len(strains))
    operations = np.tile(np.eye(3), (len(strains), 1, 1))
    for k, strain in enumerate(strains):
        images = group @ strains[:k, None] @ np.swapaxes(group, -1, -2)
        same = np.abs(images - strain).max(axis=(-2, -1)) < _SAME_STRAIN * max(np.abs(strain).max(), 1e-12)
        if same.any():
            first, operation = np.argwhere(same)[0]
            chosen[k], operations[k] = first, group[operation]
    return chosen, operations
