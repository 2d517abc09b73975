"""Strains applied to a crystal, their equivalence under its point group, and the frame of the stress.

A strain is a Green-Lagrange tensor E; the cell is deformed by F with F^T F = 1 + 2 E. Structures are evaluated with the
symmetric root F, which does not depend on a rotation of the axes. The fitted stress is the Cauchy stress for the upper
triangular F, as in pymatgen and the Materials Project: the same crystal, rotated.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import spglib
from ase import Atoms
from jaxtyping import Float, Int

from mlip.units import VOIGT

_SYMMETRY_TOLERANCE = 1e-3
"""Tolerance for symmetry, A; files and relaxations leave atoms closer than this to their symmetric positions."""
_SAME_STRAIN = 1e-5


@dataclass(frozen=True)
class Strains:
    """Strains for an elastic tensor, sorted by pattern (xx yy zz yz xz xy), then by value."""

    patterns: Int[np.ndarray, " k"]
    """Voigt index of the strained component."""
    values: Float[np.ndarray, " k"]
    """Values of the tensor component: half the engineering strain for yz, xz and xy."""

    @classmethod
    def of(cls, normal: tuple[float, ...], shear: tuple[float, ...]) -> "Strains":
        counts = [len(normal)] * 3 + [len(shear)] * 3
        return cls(np.repeat(np.arange(6), counts), np.concatenate([normal] * 3 + [shear] * 3))

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def tensors(self) -> Float[np.ndarray, "k 3 3"]:
        """Green-Lagrange tensor E of each strain."""
        tensors = np.zeros((len(self), 3, 3))
        for tensor, pattern, value in zip(tensors, self.patterns, self.values, strict=True):
            i, j = VOIGT[pattern]
            tensor[i, j] = tensor[j, i] = value
        return tensors

    @cached_property
    def stretches(self) -> Float[np.ndarray, "k 3 3"]:
        """Symmetric F of each strain."""
        squares, axes = np.linalg.eigh(np.eye(3) + 2 * self.tensors)
        return (axes * np.sqrt(squares)[:, None, :]) @ np.swapaxes(axes, -1, -2)

    @cached_property
    def frames_of_upper(self) -> Float[np.ndarray, "k 3 3"]:
        """Rotation R of each strain from the axes of its symmetric F to those of its upper triangular F, in which a
        stress is R stress R^T."""
        upper = np.swapaxes(np.linalg.cholesky(np.eye(3) + 2 * self.tensors), -1, -2)
        return upper @ np.linalg.inv(self.stretches)

    @property
    def engineering(self) -> Float[np.ndarray, " k"]:
        """Values in Voigt notation (engineering strains)."""
        return np.where(self.patterns < 3, 1.0, 2.0) * self.values

    def name(self, k: int) -> str:
        """Name of a strain, such as "xy -1 %"."""
        return f"{('xx', 'yy', 'zz', 'yz', 'xz', 'xy')[self.patterns[k]]} {100 * self.values[k]:+g} %"


def point_group(atoms: Atoms) -> Float[np.ndarray, "k 3 3"]:
    """Cartesian orthogonal matrices of a crystal's point group, x -> Q x; only the identity if spglib finds none."""
    found = spglib.get_symmetry(
        (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=_SYMMETRY_TOLERANCE
    )
    if found is None:
        return np.eye(3)[None]
    columns = atoms.cell.array.T
    matrices = columns @ np.unique(found["rotations"], axis=0) @ np.linalg.inv(columns)
    left, _, right = np.linalg.svd(matrices)  # nearest orthogonal matrices: the cell has rounding errors
    return left @ right


def representatives(
    strains: Float[np.ndarray, "k 3 3"], group: Float[np.ndarray, "g 3 3"]
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k 3 3"]]:
    """First strain that an operation of the group maps to each strain, and this operation: E = Q E' Q^T."""
    norms = np.linalg.norm(strains, axis=(-2, -1))
    tolerances = _SAME_STRAIN * np.maximum(norms, 1e-12)
    images = group[:, None] @ strains @ np.swapaxes(group, -1, -2)[:, None]
    chosen = np.arange(len(strains))
    operations = np.tile(np.eye(3), (len(strains), 1, 1))
    for k, strain in enumerate(strains):
        earlier = np.flatnonzero(np.abs(norms[:k] - norms[k]) < tolerances[k])
        same = (np.abs(images[:, earlier] - strain) < tolerances[k]).all(axis=(-2, -1))
        if same.any():
            place = int(same.any(axis=0).argmax())
            chosen[k], operations[k] = earlier[place], group[same[:, place].argmax()]
    return chosen, operations
