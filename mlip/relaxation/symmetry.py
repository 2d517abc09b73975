"""Symmetry operations of a structure, found once by spglib, and linear maps that preserve them in a relaxation.

An operation takes the point r to R r + t and atom i to (an image of) atom p(i). Forces that obey the group G satisfy
f_p(i) = R f_i, so that those on an orbit of atoms follow from the force on one representative. The projection of
arbitrary forces onto these therefore needs one matrix per atom and no loop over operations:

    f_i  ->  A_i sum_j A_j^T f_j,    A_i = sqrt(m) / |G|  sum_(g: rep -> i) R_g,    j in the orbit of i, of size m.

Strains that obey the group commute with all R. They are closed under products, so that a cell that starts with the
symmetry keeps it (`mlip.relaxation.cell`).
"""

import warnings
from typing import NamedTuple

import numpy as np
import spglib
from ase import Atoms
from ase.constraints import FixSymmetry
from jaxtyping import Bool, Float, Int

from mlip.errors import MlipError

SYMPREC = 0.01
"""Tolerance for atoms off their symmetric positions, A; the default of ASE's FixSymmetry."""


class OrbitMaps(NamedTuple):
    """Projection of forces (see the module) for one structure."""

    matrices: Float[np.ndarray, "n 3 3"]
    """Matrices A_i."""
    orbit: Int[np.ndarray, " n"]
    """Representative of each atom: the first atom of its orbit."""


class SymmetricStart(NamedTuple):
    """A structure and the group to preserve: that of its primitive cell, because a supercell has fewer operations,
    namely those that preserve its shape."""

    positions: Float[np.ndarray, "n 3"]
    cell: Float[np.ndarray, "3 3"]
    rotations: Float[np.ndarray, "k 3 3"]
    """Cartesian rotations, orthogonal to rounding."""
    images: Int[np.ndarray, "k p"]
    """Primitive atom to which each operation maps each primitive atom."""
    primitive: Int[np.ndarray, " n"]
    """Primitive atom of which each atom is a copy."""


def symmetric_start(atoms: Atoms, cell: Float[np.ndarray, "3 3"], where: str | None = None) -> SymmetricStart:
    """The structure made exactly symmetric, with the space group found within `SYMPREC`.

    Args:
        cell: cell of the atoms, completed with vectors for directions without one.

    Raises:
        MlipError: spglib cannot determine the symmetry: atoms are too close, or the cell is degenerate.
    """
    box = _periodic_box(atoms.positions, cell, atoms.pbc)
    dataset = _dataset(atoms.positions, box, atoms.numbers, where)
    lattice, primitive = dataset.primitive_lattice, _numbered_from_zero(dataset.mapping_to_primitive)
    fractions = atoms.positions @ np.linalg.inv(lattice)
    first = np.unique(primitive, return_index=True)[1]
    whole = np.round(fractions - fractions[first[primitive]])
    means = np.zeros((len(first), 3))
    np.add.at(means, primitive, (fractions - whole) * len(first) / len(primitive))

    rotations, images = _operations(means @ lattice, lattice, atoms.numbers[first], where)
    exact, exact_lattice = _made_exact(means, lattice, rotations, images)
    return SymmetricStart(
        positions=(exact[primitive] + whole) @ exact_lattice,
        cell=cell @ np.linalg.solve(lattice, exact_lattice),
        rotations=_cartesian(rotations, exact_lattice),
        images=images,
        primitive=primitive,
    )


def constrained_start(constraint: FixSymmetry, atoms: Atoms, where: str | None = None) -> SymmetricStart:
    """The structure unchanged, with the operations of ASE's FixSymmetry constraint.

    Raises:
        MlipError: the structure was changed since and no longer has this symmetry.
    """
    rotations, images = np.asarray(constraint.rotations), np.asarray(constraint.symm_map)
    cell = atoms.cell.array
    fractions, exact_cell = _made_exact(atoms.positions @ np.linalg.inv(cell), cell, rotations, images)
    moved = max(np.abs(fractions @ exact_cell - atoms.positions).max(), np.abs(exact_cell - cell).max())
    if moved > constraint.symprec:
        raise MlipError(
            f"is {moved:.1g} A away from the symmetry of its FixSymmetry constraint",
            where=where,
            fix="make the constraint after the last change of the structure",
        )
    return SymmetricStart(atoms.positions, cell, _cartesian(rotations, exact_cell), images, np.arange(len(atoms)))


def _dataset(positions, cell, numbers, where: str | None) -> spglib.SpglibDataset:
    fractions = positions @ np.linalg.inv(cell)
    try:
        with warnings.catch_warnings():  # spglib 2.8 warns that it will raise instead of returning None
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = spglib.get_symmetry_dataset((cell, fractions, numbers), symprec=SYMPREC)
    except spglib.SpglibError:
        dataset = None
    if dataset is None:
        raise MlipError("spglib cannot tell its symmetry", where=where, fix="relax it with symmetry=False")
    return dataset


def _numbered_from_zero(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.unique(labels, return_inverse=True)[1]


def _operations(positions, cell, numbers, where: str | None) -> tuple[Int[np.ndarray, "k 3 3"], Int[np.ndarray, "k n"]]:
    """Rotations in fractional coordinates, and the atom of the same element nearest to each operation's image of each
    atom."""
    dataset = _dataset(positions, cell, numbers, where)
    fractions = positions @ np.linalg.inv(cell)
    is_other = numbers[:, None] != numbers
    images = np.empty((len(dataset.rotations), len(numbers)), dtype=np.int64)
    for k, (rotation, translation) in enumerate(zip(dataset.rotations, dataset.translations, strict=True)):
        apart = (fractions @ rotation.T + translation)[:, None] - fractions
        apart -= np.round(apart)
        distances = np.linalg.norm(apart @ cell, axis=-1)
        images[k] = np.where(is_other, np.inf, distances).argmin(axis=1)
    if (np.sort(images, axis=1) != np.arange(len(numbers))).any():
        raise MlipError(
            f"its symmetry is ambiguous within {SYMPREC} A", where=where, fix="relax it with symmetry=False"
        )
    return np.asarray(dataset.rotations), images


def _made_exact(
    fractions: Float[np.ndarray, "n 3"],
    cell: Float[np.ndarray, "3 3"],
    rotations: Int[np.ndarray, "k 3 3"],
    images: Int[np.ndarray, "k n"],
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "3 3"]]:
    """Fractional coordinates and cell that obey the operations to rounding, closest to those given.

    With c the centroid, the translations are t = (1 - R) c + m / n with integer m; rounding the differences between
    atoms gives them exactly, regardless of noise in the positions.
    """
    metric = np.mean(rotations.transpose(0, 2, 1) @ (cell @ cell.T) @ rotations, axis=0)
    inverse = np.linalg.inv(cell)
    rotated = np.einsum("kij,nj->kni", rotations, fractions)
    apart = fractions[images] - rotated
    whole = np.round(apart - apart[:, :1])
    translations = np.mean(apart - whole, axis=1, keepdims=True)
    exact = np.zeros_like(fractions)
    np.add.at(exact, images, rotated + translations + whole)
    return exact / len(rotations), cell @ _square_root(inverse @ metric @ inverse.T)


def _square_root(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Square root of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T


def _cartesian(rotations: Int[np.ndarray, "k 3 3"], cell: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "k 3 3"]:
    """Rotations of fractional coordinates as the nearest orthogonal Cartesian matrices."""
    left, _, right = np.linalg.svd(cell.T @ rotations @ np.linalg.inv(cell.T))
    return left @ right


def orbit_maps(
    rotations: Float[np.ndarray, "k 3 3"], images: Int[np.ndarray, "k p"], primitive: Int[np.ndarray, " n"]
) -> OrbitMaps:
    """Projection of forces onto those that obey the group and are equal on all copies of a primitive atom.

    Args:
        rotations: Cartesian, in the axes of the forces.
        images, primitive: from `SymmetricStart`.
    """
    representatives = images.min(axis=0)
    matrices = np.zeros((images.shape[1], 3, 3))
    for representative in np.unique(representatives):
        np.add.at(matrices, images[:, representative], rotations)
    first = np.unique(primitive, return_index=True)[1]
    orbit = first[representatives[primitive]]
    sizes = np.bincount(representatives)[representatives]
    matrices *= (np.sqrt(sizes * len(first) / len(primitive)) / len(rotations))[:, None, None]
    return OrbitMaps(matrices[primitive], orbit.astype(np.int32))


def no_maps(n_atoms: int) -> OrbitMaps:
    """Identity maps, for a structure whose symmetry is not kept."""
    return OrbitMaps(np.tile(np.eye(3), (n_atoms, 1, 1)), np.arange(n_atoms, dtype=np.int32))


def strain_projection(rotations: Float[np.ndarray, "k 3 3"]) -> Float[np.ndarray, "9 9"]:
    """Projection of a flattened strain tensor (row by row) onto those that commute with the rotations."""
    return np.einsum("kia,kjb->ijab", rotations, rotations).reshape(9, 9) / len(rotations)


def _periodic_box(
    positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, " 3"]
) -> Float[np.ndarray, "3 3"]:
    """Cell whose open directions are normal to the periodic ones and so long that spglib's periodic images along them
    neither mix with the lattice nor overlap the structure.

    Args:
        cell: three independent vectors; those of open directions are replaced.
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
