"""The symmetry operations of a structure, found once by spglib, and the linear maps that keep a relaxation to them.

An operation takes the point r to R r + t and atom i to (an image of) atom p(i). Forces that obey the group G are
f_p(i) = R f_i: on each orbit of atoms they follow from the force on one representative. The projection of any forces
onto such forces is therefore, with one matrix an atom and no loop over operations,

    f_i  ->  A_i sum_j A_j^T f_j,    A_i = sqrt(m) / |G|  sum_(g: rep -> i) R_g,    j in the orbit of i, of size m.

Strains that obey the group commute with all R; they are closed under products, so that a cell which starts with
the symmetry keeps it (`mlip.relaxation.cell`).
"""

from typing import NamedTuple

import numpy as np
import spglib
from ase import Atoms
from ase.constraints import FixSymmetry
from jaxtyping import Bool, Float, Int

from mlip.errors import MlipError

SYMPREC = 0.01
"""How far from its symmetric place an atom may be, A: the default of ASE's FixSymmetry."""


class Operations(NamedTuple):
    """A group, in fractional coordinates of the cell that it was found in."""

    rotations: Int[np.ndarray, "k 3 3"]
    images: Int[np.ndarray, "k n"]
    """The atom that each atom is taken to."""


class OrbitMaps(NamedTuple):
    """The projection of forces above, for one structure."""

    matrices: Float[np.ndarray, "n 3 3"]
    """A."""
    orbit: Int[np.ndarray, " n"]
    """The representative of each atom, the first atom of its orbit."""


class SymmetricStart(NamedTuple):
    """A structure and the group that it is to keep."""

    positions: Float[np.ndarray, "n 3"]
    cell: Float[np.ndarray, "3 3"]
    rotations: Float[np.ndarray, "k 3 3"]
    """Cartesian, orthogonal to rounding."""
    images: Int[np.ndarray, "k n"]


def symmetric_start(atoms: Atoms, cell: Float[np.ndarray, "3 3"], where: str | None = None) -> SymmetricStart:
    """The structure made exactly symmetric, with all operations that it has within `SYMPREC`.

    Args:
        cell: that of the atoms, completed by vectors for the directions that have none.

    Raises:
        MlipError: what `find_operations` raises.
    """
    box = _periodic_box(atoms.positions, cell, atoms.pbc)
    operations = find_operations(atoms.numbers, atoms.positions, box, where)
    positions, exact_box = made_exact(atoms.positions, box, operations)
    exact_cell = cell @ np.linalg.solve(box, exact_box)
    return SymmetricStart(positions, exact_cell, _cartesian(operations.rotations, exact_box), operations.images)


def constrained_start(constraint: FixSymmetry, atoms: Atoms, where: str | None = None) -> SymmetricStart:
    """The structure as it is, with the operations that ASE's FixSymmetry found.

    Raises:
        MlipError: the structure has been changed since, and obeys them no longer.
    """
    operations = Operations(np.asarray(constraint.rotations), np.asarray(constraint.symm_map))
    positions, cell = made_exact(atoms.positions, atoms.cell.array, operations)
    moved = max(np.abs(positions - atoms.positions).max(), np.abs(cell - atoms.cell.array).max())
    if moved > constraint.symprec:
        raise MlipError(
            f"is {moved:.1g} A away from the symmetry of its FixSymmetry constraint",
            where=where,
            fix="make the constraint after the last change of the structure",
        )
    return SymmetricStart(atoms.positions, atoms.cell.array, _cartesian(operations.rotations, cell), operations.images)


def find_operations(
    numbers: Int[np.ndarray, " n"],
    positions: Float[np.ndarray, "n 3"],
    cell: Float[np.ndarray, "3 3"],
    where: str | None = None,
) -> Operations:
    """All operations that spglib finds within `SYMPREC`.

    Raises:
        MlipError: spglib finds none, not even the identity: atoms too close to each other, a degenerate cell.
    """
    fractions = np.linalg.solve(cell.T, positions.T).T
    try:
        dataset = spglib.get_symmetry_dataset((cell, fractions, numbers), symprec=SYMPREC)
    except spglib.SpglibError:
        dataset = None
    if dataset is None:
        raise MlipError("spglib cannot tell its symmetry", where=where, fix="relax it with symmetry=False")
    images = _images(numbers, fractions, cell, dataset.rotations, dataset.translations)
    if (np.sort(images, axis=1) != np.arange(len(numbers))).any():
        raise MlipError(
            f"its symmetry is ambiguous within {SYMPREC} A", where=where, fix="relax it with symmetry=False"
        )
    return Operations(np.asarray(dataset.rotations), images)


def _images(numbers, fractions, cell, rotations, translations) -> Int[np.ndarray, "k n"]:
    """The atom of the same element nearest to where each operation takes each atom."""
    is_other = numbers[:, None] != numbers
    images = np.empty((len(rotations), len(numbers)), dtype=np.int64)
    for k, (rotation, translation) in enumerate(zip(rotations, translations, strict=True)):
        apart = (fractions @ rotation.T + translation)[:, None] - fractions
        apart -= np.round(apart)
        distances = np.linalg.norm(apart @ cell, axis=-1)
        images[k] = np.where(is_other, np.inf, distances).argmin(axis=1)
    return images


def made_exact(
    positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"], operations: Operations
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "3 3"]]:
    """Positions and cell that obey the operations to rounding, nearest to those given.

    With c the centroid, the translations are t = (1 - R) c + m / n with whole m: rounding the differences between
    atoms gives them exactly, whatever the noise of the atoms.
    """
    rotations, images = operations
    metric = np.mean(rotations.transpose(0, 2, 1) @ (cell @ cell.T) @ rotations, axis=0)
    inverse = np.linalg.inv(cell)
    exact_cell = cell @ _square_root(inverse @ metric @ inverse.T)

    fractions = positions @ inverse
    rotated = np.einsum("kij,nj->kni", rotations, fractions)
    apart = fractions[images] - rotated
    whole = np.round(apart - apart[:, :1])
    translations = np.mean(apart - whole, axis=1, keepdims=True)
    taken = rotated + translations + whole
    exact = np.zeros_like(fractions)
    np.add.at(exact, images, taken)
    return exact / len(rotations) @ exact_cell, exact_cell


def _square_root(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T


def _cartesian(rotations: Int[np.ndarray, "k 3 3"], cell: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "k 3 3"]:
    """Rotations of fractional coordinates as the nearest orthogonal matrices."""
    left, _, right = np.linalg.svd(cell.T @ rotations @ np.linalg.inv(cell.T))
    return left @ right


def orbit_maps(rotations: Float[np.ndarray, "k 3 3"], images: Int[np.ndarray, "k n"]) -> OrbitMaps:
    """The projection of forces onto those that obey the group."""
    orbit = images.min(axis=0)
    matrices = np.zeros((images.shape[1], 3, 3))
    for representative in np.unique(orbit):
        np.add.at(matrices, images[:, representative], rotations)
    sizes = np.bincount(orbit, minlength=len(orbit))[orbit]
    return OrbitMaps(matrices * (np.sqrt(sizes) / len(rotations))[:, None, None], orbit.astype(np.int32))


def no_maps(n_atoms: int) -> OrbitMaps:
    """Those of a structure whose symmetry is not kept: forces stay as they are."""
    return OrbitMaps(np.tile(np.eye(3), (n_atoms, 1, 1)), np.arange(n_atoms, dtype=np.int32))


def strain_projection(rotations: Float[np.ndarray, "k 3 3"]) -> Float[np.ndarray, "9 9"]:
    """The projection of a strain tensor, rows first, onto those that commute with the rotations."""
    return np.einsum("kia,kjb->ijab", rotations, rotations).reshape(9, 9) / len(rotations)


def _periodic_box(
    positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, " 3"]
) -> Float[np.ndarray, "3 3"]:
    """The cell with open directions made so long, and normal to the periodic ones, that spglib's periodic images
    along them neither mix with the lattice nor meet the structure.

    Args:
        cell: three independent vectors; the open ones tell which way they go at most.
    """
    if pbc.all():
        return cell
    order = np.argsort(~pbc, kind="stable")
    axes, _ = np.linalg.qr(cell[order].T)
    normals = axes.T[int(pbc.sum()) :]
    extent = np.ptp(positions @ normals.T, axis=0).max()
    longest = np.linalg.norm(cell[pbc], axis=1).max(initial=0.0)
    box = cell.copy()
    box[~pbc] = (3 * (extent + longest) + 30.0) * normals
    return box
