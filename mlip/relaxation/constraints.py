"""ASE's constraints that a projection keeps: which atoms are held, and along which directions the others may move.

FixCartesian, FixedPlane and FixedLine speak of Cartesian directions: as in ASE the cell takes an atom along first, then
it moves within them. FixScaled speaks of lattice vectors, along which an atom moves by fractions: in undeformed
positions these are always the vectors at the start. Forces are projected at right angles, so that what is left is the
gradient of the energy along the motions that are allowed. (ASE's FixScaled transforms forces as if they were positions
in fractions of the cell, which is the same only where the free vectors are at right angles to the held ones.)
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
    """Projections onto the directions along which each atom may move; the identity where it may along all."""

    cartesian: Float[np.ndarray, "n 3 3"]
    """Projections for atoms where they are."""
    scaled: Float[np.ndarray, "n 3 3"]
    """Projections for undeformed positions."""


def check_constraints(atoms: Atoms, where: str | None = None) -> None:
    """
    Raises:
        MlipError: a constraint that would be broken in silence; names it.
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
    """Whether some atoms may move along some directions only."""
    return any(isinstance(constraint, FixScaled | _CARTESIAN) for constraint in atoms.constraints)


def free_atoms(atoms: Atoms) -> Bool[np.ndarray, " n"]:
    """False for atoms that FixAtoms holds."""
    is_free = np.ones(len(atoms), bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            is_free[constraint.get_indices()] = False
    return is_free


def allowed_motions(atoms: Atoms, cell: Float[np.ndarray, "3 3"], where: str | None = None) -> AllowedMotions:
    """Motions that the constraints of a structure leave, in its own axes.

    Args:
        cell: its lattice vectors, completed where it has none.

    Raises:
        MlipError: an atom with both kinds of directions, whose common part changes with the cell.
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
    """Motions of a structure without such constraints."""
    return AllowedMotions(*np.tile(np.eye(3), (2, n_atoms, 1, 1)))


def _held_directions(constraint: Any, cell: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "k 3"]:
    """Directions to whose components a constraint's atoms must not move."""
    if isinstance(constraint, FixedPlane):
        return constraint.dir[None]
    if isinstance(constraint, FixedLine):
        return _normal_to(constraint.dir[None])
    if isinstance(constraint, FixCartesian):
        return np.eye(3)[constraint.mask]
    return np.linalg.inv(cell).T[constraint.mask]  # reciprocal vectors are normal to all other lattice vectors


def _normal_to(rows: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "3 3"]:
    """The projection onto what is at right angles to all rows."""
    _, sizes, directions = np.linalg.svd(rows, full_matrices=False) if len(rows) else (None, np.zeros(0), rows)
    spanned = directions[sizes > 1e-9 * sizes.max(initial=0.0)]
    return np.eye(3) - spanned.T @ spanned
