"""The cell as degrees of freedom: the logarithm of its deformation, as in ASE's FrechetCellFilter (3.29).

With x the positions and cell_0 the cell in the undeformed frame, and F = exp(L):

    positions = x F^T      cell = cell_0 F^T

The optimizer moves x and n L (n atoms: ASE's default `exp_cell_factor`). The gradient with respect to L comes from
that with respect to F by the adjoint of exp's Frechet derivative (Higham, Functions of Matrices, eq. 3.16).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mlip.errors import MlipError
from mlip.units import VOIGT


@dataclass(frozen=True)
class Along:
    """The cell choice "within the span of these cell vectors": (True, True, False) is in the plane of a and b."""

    directions: tuple[bool, bool, bool]


HYDROSTATIC = "hydrostatic"
CellChoice = Literal["auto", "hydrostatic"] | bool | Along | Bool[np.ndarray, "6"] | Bool[np.ndarray, "3 3"]
"""Which strain components may relax: the periodic directions; of these only the volume (a layer's area, a chain's
length); all; none; some directions; or a mask as ASE has it."""

_SQUARINGS = 4


def expm(matrix: Float[Array, "*b k k"]) -> Float[Array, "*b k k"]:
    """Matrix exponential of small matrices with norms up to 3 (beyond the strain guard), to float64 rounding; up to
    7, beyond the widest that the guard may be set, to 1e-12.

    Taylor's series to order 11 of the matrix over 16 (truncation < 1e-16), squared four times. Nine products and
    no branches: `jax.scipy.linalg.expm` takes seconds to compile, and this runs at every step.
    """
    return _expm(matrix, jnp.eye(matrix.shape[-1], dtype=matrix.dtype))


def expm_host(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """The same in float64 on the host. scipy's wakes the threads of BLAS, wherever there are some, for 3 ms a call."""
    if not matrix.any():  # at the start of every relaxation
        return np.eye(3)
    return _expm(np.asarray(matrix, dtype=np.float64), np.eye(3))


def _expm(matrix, identity):
    a = matrix / 2**_SQUARINGS
    a2 = a @ a
    a3 = a2 @ a
    powers = (identity, a, a2)

    def block(first: int):
        return sum(power / math.factorial(first + k) for k, power in enumerate(powers))

    result = block(0) + a3 @ (block(3) + a3 @ (block(6) + a3 @ block(9)))
    for _ in range(_SQUARINGS):
        result = result @ result
    return result


def cell_forces(
    stress: Float[Array, "g 6"],
    volume: Float[Array, " g"],
    log_deformation: Float[Array, "g 3 3"],
    deformation: Float[Array, "g 3 3"],
    freedom: Float[Array, "g 9 9"],
    pressure: Float[Array, ""] | float,
    n_atoms: Float[Array, " g"],
) -> Float[Array, "g 3 3"]:
    """The force rows of the cell: -d(E + p V)/dL over the number of atoms, of the strains that may occur.

    Args:
        stress: eV/A^3, ASE's Voigt order and sign.
        deformation: F, the exponential of `log_deformation`.
        freedom: of `strain_freedom`.
        pressure: eV/A^3.
    """
    identity = jnp.eye(3, dtype=stress.dtype)
    virial = -volume[:, None, None] * project(freedom, tensor_from_voigt(stress) + pressure * identity)
    on_deformation = virial @ inverse_transpose(deformation)
    return project(freedom, _adjoint_frechet(log_deformation, on_deformation)) / n_atoms[:, None, None]


def project(freedom: Float[Array, "g 9 9"], tensors: Float[Array, "g 3 3"]) -> Float[Array, "g 3 3"]:
    """The part of tensors that `strain_freedom` leaves."""
    return jnp.einsum("gab,gb->ga", freedom, tensors.reshape(-1, 9)).reshape(-1, 3, 3)


def _adjoint_frechet(matrix: Float[Array, "g 3 3"], cotangent: Float[Array, "g 3 3"]) -> Float[Array, "g 3 3"]:
    """The adjoint of exp's Frechet derivative: exp of [[M^T, C], [0, M^T]] has it in its upper right block."""
    upper = jnp.concatenate([matrix.mT, cotangent], axis=-1)
    lower = jnp.concatenate([jnp.zeros_like(matrix), matrix.mT], axis=-1)
    return expm(jnp.concatenate([upper, lower], axis=-2))[..., :3, 3:]


def inverse_transpose(matrix: Float[Array, "g 3 3"]) -> Float[Array, "g 3 3"]:
    """By cofactors."""
    a, b, c = matrix[:, 0], matrix[:, 1], matrix[:, 2]
    cofactors = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=1)
    return cofactors / jnp.sum(a * cofactors[:, 0], axis=-1)[:, None, None]


def tensor_from_voigt(voigt: Float[Array, "g 6"]) -> Float[Array, "g 3 3"]:
    """Batched, traceable counterpart of `mlip.units.tensor_from_voigt`."""
    xx, yy, zz, yz, xz, xy = jnp.moveaxis(voigt, -1, 0)
    rows = [jnp.stack(row, axis=-1) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))]
    return jnp.stack(rows, axis=-2)


def deform(rows: Float[np.ndarray, "n 3"], deformation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 3"]:
    """Row vectors (positions or lattice vectors) under a deformation gradient: r F^T."""
    return rows @ deformation.T


def cell_of_each(cell: CellChoice | Sequence[CellChoice], n_structures: int) -> list[CellChoice]:
    """One checked choice for each structure.

    Masks are numpy arrays, three rows of three, tuples of six, and lists of six numbers that are no bools. Any other
    list or tuple has one choice for each structure.

    Raises:
        MlipError: a choice that `checked_choice` refuses, another number of choices than of structures, six values that
            may be a mask as well as choices for six structures.
    """
    if not isinstance(cell, list | tuple) or _is_mask(cell):
        if isinstance(cell, list | tuple) and len(cell) == 6 == n_structures:
            raise MlipError(
                "six values for six structures may be a mask or choices",
                where="cell",
                fix="give a mask as a numpy array, choices as a list of True and False",
            )
        return [checked_choice(cell, "cell")] * n_structures
    if len(cell) != n_structures:
        raise MlipError(
            f"{len(cell)} choices for {n_structures} structures", where="cell", fix="give a mask as a numpy array"
        )
    return [checked_choice(choice, f"cell of structure {k}") for k, choice in enumerate(cell)]


def _is_mask(values: Sequence) -> bool:
    """Whether a list or tuple is to be taken as a mask of six or 3 x 3 components."""
    if len(values) == 3 and all(isinstance(row, list | tuple | np.ndarray) and len(row) == 3 for row in values):
        return True
    if len(values) != 6 or not all(isinstance(value, Number | np.bool_) for value in values):
        return False
    return isinstance(values, tuple) or not all(isinstance(value, bool | np.bool_) for value in values)


def checked_choice(choice: CellChoice, where: str) -> CellChoice:
    """The choice, masks as 3 x 3 arrays of bools.

    Raises:
        MlipError: an unknown word, or what `closed_mask` raises.
    """
    if isinstance(choice, str) and choice not in ("auto", HYDROSTATIC):
        raise MlipError(f"unknown choice {choice!r}", where=where, fix="'auto', 'hydrostatic', True, False or a mask")
    if isinstance(choice, str | Along | bool):
        return choice
    return bool(choice) if isinstance(choice, np.bool_) else closed_mask(choice, where)


def closed_mask(mask: Float[np.ndarray, "..."], where: str | None = None) -> Bool[np.ndarray, "3 3"]:
    """A mask as ASE takes it, Voigt (6,) or (3, 3), as a symmetric 3 x 3 array of bools.

    Raises:
        MlipError: another shape, or a mask that is not closed. Deformations with the free components must
            compose to deformations with the free components (xy needs xx and yy; xy and yz need xz), else
            the logarithm of the cell leaves the mask after the first step.
    """
    mask = np.asarray(mask)
    if mask.shape == (6,):
        full = np.zeros((3, 3), dtype=bool)
        for (i, j), free in zip(VOIGT, mask, strict=True):
            full[i, j] = full[j, i] = bool(free)
    elif mask.shape == (3, 3):
        full = mask.astype(bool)
    else:
        raise MlipError(
            f"the cell mask has shape {mask.shape}",
            where=where,
            fix="give 'auto', True, False, 6 Voigt components xx yy zz yz xz xy, or 3 x 3",
        )
    is_closed = (full == full.T).all() and not (((full.astype(int) @ full.astype(int)) > 0) & ~full).any()
    if not is_closed:
        raise MlipError(
            "the cell mask frees a shear without the stretches that it turns into",
            where=where,
            fix="free xx and yy with xy (likewise for yz, xz); two shears need the third",
        )
    return full


def strain_freedom(
    mask: Bool[np.ndarray, "3 3"],
    symmetric: Float[np.ndarray, "9 9"] | None = None,
    constant_volume: bool = False,
    hydrostatic: bool = False,
) -> Float[np.ndarray, "9 9"]:
    """The projection of a tensor, rows first, onto the strains that may occur.

    Args:
        mask: closed in the sense of `closed_mask`.
        symmetric: the projection onto the strains that a symmetry leaves.
        constant_volume: only those without a trace; of the area or length where the mask has only these.
        hydrostatic: only the expansion that is the same along all directions of the mask.
    """
    freedom = np.diag(mask.ravel().astype(np.float64))
    if symmetric is not None:
        freedom = symmetric if mask.all() else _common_part(freedom, symmetric)
    if not (constant_volume or hydrostatic):
        return freedom
    expansion = freedom @ np.eye(3).ravel()
    along_expansion = np.outer(expansion, expansion) / max(expansion @ expansion, 1e-12)
    return along_expansion if hydrostatic else freedom - along_expansion


def _common_part(one: Float[np.ndarray, "9 9"], other: Float[np.ndarray, "9 9"]) -> Float[np.ndarray, "9 9"]:
    """The projection onto what two projections both leave as it is."""
    values, vectors = np.linalg.eigh(one @ other @ one)
    kept = vectors[:, values > 1 - 1e-6]
    return kept @ kept.T


def aligned_frame(cell: Float[np.ndarray, "3 3"], directions: Bool[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation Q (rows turn as r Q) after which some cell vectors span Cartesian axes.

    Identity where they already do, so that a cell in the usual setting keeps its axes; else the first of them goes
    along x, the second into the xy plane.
    """
    vectors = np.asarray(cell, dtype=np.float64)[directions]
    if len(vectors) in (0, 3) or _axes_touched(vectors).sum() == len(vectors):
        return np.eye(3)
    basis, _ = np.linalg.qr(vectors.T, mode="complete")
    return basis


def span_mask(cell: Float[np.ndarray, "3 3"], directions: Bool[np.ndarray, " 3"]) -> Bool[np.ndarray, "3 3"]:
    """The strain components within the span of some cell vectors, in their `aligned_frame`."""
    if np.all(directions):
        return np.ones((3, 3), dtype=bool)
    touched = _axes_touched(np.asarray(cell, dtype=np.float64)[directions])
    return np.outer(touched, touched)


def _axes_touched(vectors: Float[np.ndarray, "k 3"]) -> Bool[np.ndarray, " 3"]:
    """Which Cartesian axes the vectors have components along, rounding apart."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (np.abs(vectors) > 1e-4 * lengths).any(axis=0)
