"""ASE constraints enforced by projection: atoms that are fixed, and directions along which the others may move.

FixCartesian, FixedPlane and FixedLine refer to Cartesian directions: as in ASE, the cell first carries an atom along,
which then moves within the allowed directions. FixScaled refers to lattice vectors, along which an atom moves by
fractions; for undeformed positions these are always the initial vectors. Forces are projected orthogonally, so that the
result is the energy gradient along the allowed motions. (ASE's FixScaled transforms forces like positions in fractions
of the cell, which is the same only if the free vectors are orthogonal to the fixed ones.)
"""

from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, FixScaled, FixSymmetry
from jaxtyping import Bool, Float

from mlip.errors import MlipError

_CARTESIAN = FixCartesian | FixedPlane | FixedLine
_KEPT = FixAtoms | FixScaled | FixSymmetry | _CARTESIAN
_NAMES = "FixAtoms, FixScaled, FixCartesian, FixedPlane, FixedLine and FixSymmetry"


class AllowedMotions(NamedTuple):
    """Projections onto the directions along which each atom may move; the identity for unconstrained atoms."""

    cartesian: Float[np.ndarray, "n 3 3"]
    """Projections for actual positions."""
    scaled: Float[np.ndarray, "n 3 3"]
    """Projections for undeformed positions."""


def check_constraints(atoms: Atoms, where: str | None = None) -> None:
    """Check that the constraints are supported.

    Raises:
        MlipError: names a constraint that cannot be enforced.
    """
    names = [type(constraint).__name__ for constraint in atoms.constraints]
    for name, constraint in zip(names, atoms.constraints, strict=True):
        if not isinstance(constraint, _KEPT):
            raise MlipError(
                f"constraint {name} is not supported",
                where=where,
                fix=f"{_NAMES} are; take the others off (atoms.set_constraint())",
            )
    if names.count("FixSymmetry") > 1:
        raise MlipError("has more than one FixSymmetry", where=where, fix="leave one")


def has_directions(atoms: Atoms) -> bool:
    """Whether a constraint restricts the directions of motion of some atoms."""
    return any(isinstance(constraint, FixScaled | _CARTESIAN) for constraint in atoms.constraints)


def free_atoms(atoms: Atoms) -> Bool[np.ndarray, " n"]:
    """Mask of free atoms: False for those held by FixAtoms."""
    is_free = np.ones(len(atoms), bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            is_free[constraint.get_indices()] = False
    return is_free


def allowed_motions(atoms: Atoms, cell: Float[np.ndarray, "3 3"], where: str | None = None) -> AllowedMotions:
    """Allowed motions under the constraints of a structure, in its own axes.

    Args:
        cell: lattice vectors of the structure, completed for directions without one.

    Raises:
        MlipError: an atom is constrained along Cartesian directions and along lattice vectors, whose intersection
            changes with the cell.
    """
    held = {kind: [np.zeros((0, 3)) for _ in atoms] for kind in AllowedMotions._fields}
    for constraint in atoms.constraints:
        if isinstance(constraint, FixScaled | _CARTESIAN):
            kind = "scaled" if isinstance(constraint, FixScaled) else "cartesian"
            normals = _held_directions(constraint, cell)
            for atom in constraint.get_indices():
                held[kind][atom] = np.vstack([held[kind][atom], normals])
    for atom, rows in enumerate(zip(*held.values(), strict=True)):
        if all(map(len, rows)):
            raise MlipError(
                f"atom {atom} is held along lattice vectors and along Cartesian directions",
                where=where,
                fix="leave one of the constraints",
            )
    return AllowedMotions(**{kind: np.array([_normal_to(rows) for rows in held[kind]]) for kind in held})


def no_motions_excluded(n_atoms: int) -> AllowedMotions:
    """Allowed motions of a structure without such constraints."""
    return AllowedMotions(*np.tile(np.eye(3), (2, n_atoms, 1, 1)))


def _held_directions(constraint: Any, cell: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "k 3"]:
    """Directions along which a constraint fixes its atoms."""
    if isinstance(constraint, FixedPlane):
        return constraint.dir[None]
    if isinstance(constraint, FixedLine):
        return _normal_to(constraint.dir[None])
    if isinstance(constraint, FixCartesian):
        return np.eye(3)[constraint.mask]
    return np.linalg.inv(cell).T[constraint.mask]  # reciprocal vectors are normal to all other lattice vectors


def _normal_to(rows: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "3 3"]:
    """Projection onto the orthogonal complement of all rows."""
    _, sizes, directions = np.linalg.svd(rows, full_matrices=False) if len(rows) else (None, np.zeros(0), rows)
    spanned = directions[sizes > 1e-9 * sizes.max(initial=0.0)]
    return np.eye(3) - spanned.T @ spanned
