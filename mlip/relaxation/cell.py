"""The cell as degrees of freedom: the logarithm of its deformation, as in ASE's FrechetCellFilter (3.29).

With x the positions and cell_0 the cell in the undeformed frame, and F = exp(L):

    positions = x F^T      cell = cell_0 F^T

The optimizer moves x and n L (n atoms: ASE's default `exp_cell_factor`). The gradient with respect to L follows from
that with respect to F by the adjoint of the Frechet derivative of exp (Higham, Functions of Matrices, eq. 3.16).
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
    """Cell choice that relaxes only within the span of some cell vectors; (True, True, False) is the plane of a and
    b."""

    directions: tuple[bool, bool, bool]


HYDROSTATIC = "hydrostatic"
CellChoice = Literal["auto", "hydrostatic"] | bool | Along | Bool[np.ndarray, "6"] | Bool[np.ndarray, "3 3"]
"""Strain components that relax: "auto", the periodic directions; "hydrostatic", only the volume (a layer's area, a
chain's length); True, all; False, none; the span of some cell vectors; or a mask as in ASE."""

_SQUARINGS = 4


def expm(matrix: Float[Array, "*b k k"]) -> Float[Array, "*b k k"]:
    """Matrix exponential of small matrices, accurate to float64 rounding for norms up to 3 (beyond the default strain
    guard) and to 1e-12 up to 7 (beyond its widest setting).

    Taylor series to order 11 of the matrix over 16 (truncation < 1e-16), squared four times. It takes nine products and
    no branches; `jax.scipy.linalg.expm` takes seconds to compile, and this runs at every step.
    """
    return _expm(matrix, jnp.eye(matrix.shape[-1], dtype=matrix.dtype))


def expm_host(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Matrix exponential in float64 on the host. scipy's version wakes the BLAS threads, which takes 3 ms per call."""
    if not matrix.any():  # the start of every relaxation
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
    """Force rows of the cell: -d(E + p V)/dL divided by the number of atoms, for the allowed strains.

    Args:
        stress: eV/A^3, ASE's Voigt order and sign.
        deformation: F, the exponential of `log_deformation`.
        freedom: projection from `strain_freedom`.
        pressure: external pressure, eV/A^3.
    """
    identity = jnp.eye(3, dtype=stress.dtype)
    virial = -volume[:, None, None] * project(freedom, tensor_from_voigt(stress) + pressure * identity)
    on_deformation = virial @ inverse_transpose(deformation)
    return project(freedom, _adjoint_frechet(log_deformation, on_deformation)) / n_atoms[:, None, None]


def project(freedom: Float[Array, "g 9 9"], tensors: Float[Array, "g 3 3"]) -> Float[Array, "g 3 3"]:
    """Project tensors onto the strains allowed by `strain_freedom`."""
    return jnp.einsum("gab,gb->ga", freedom, tensors.reshape(-1, 9)).reshape(-1, 3, 3)


def _adjoint_frechet(matrix: Float[Array, "g 3 3"], cotangent: Float[Array, "g 3 3"]) -> Float[Array, "g 3 3"]:
    """Adjoint of the Frechet derivative of exp: the upper right block of exp([[M^T, C], [0, M^T]])."""
    upper = jnp.concatenate([matrix.mT, cotangent], axis=-1)
    lower = jnp.concatenate([jnp.zeros_like(matrix), matrix.mT], axis=-1)
    return expm(jnp.concatenate([upper, lower], axis=-2))[..., :3, 3:]


def inverse_transpose(matrix: Float[Array, "g 3 3"]) -> Float[Array, "g 3 3"]:
    """Inverse transpose of 3 x 3 matrices, computed with cofactors."""
    a, b, c = matrix[:, 0], matrix[:, 1], matrix[:, 2]
    cofactors = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=1)
    return cofactors / jnp.sum(a * cofactors[:, 0], axis=-1)[:, None, None]


def tensor_from_voigt(voigt: Float[Array, "g 6"]) -> Float[Array, "g 3 3"]:
    """Batched, traceable version of `mlip.units.tensor_from_voigt`."""
    xx, yy, zz, yz, xz, xy = jnp.moveaxis(voigt, -1, 0)
    rows = [jnp.stack(row, axis=-1) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))]
    return jnp.stack(rows, axis=-2)


def deform(rows: Float[np.ndarray, "n 3"], deformation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 3"]:
    """Apply a deformation gradient to row vectors (positions or lattice vectors): r F^T."""
    return rows @ deformation.T


def cell_of_each(cell: CellChoice | Sequence[CellChoice], n_structures: int) -> list[CellChoice]:
    """Validated cell choice for each structure.

    Masks are NumPy arrays, three rows of three, tuples of six, and lists of six numbers that are not bools. Any other
    list or tuple has one choice per structure.

    Raises:
        MlipError: `checked_choice` rejects a choice, their number differs from that of the structures, or six values
            could be a mask as well as choices for six structures.
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
    """Whether a list or tuple is a mask of six or 3 x 3 components."""
    if len(values) == 3 and all(isinstance(row, list | tuple | np.ndarray) and len(row) == 3 for row in values):
        return True
    if len(values) != 6 or not all(isinstance(value, Number | np.bool_) for value in values):
        return False
    return isinstance(values, tuple) or not all(isinstance(value, bool | np.bool_) for value in values)


def checked_choice(choice: CellChoice, where: str) -> CellChoice:
    """The choice, with masks as 3 x 3 arrays of bools.

    Raises:
        MlipError: the word is unknown, or `closed_mask` rejects the mask.
    """
    if isinstance(choice, str) and choice not in ("auto", HYDROSTATIC):
        raise MlipError(f"unknown choice {choice!r}", where=where, fix="'auto', 'hydrostatic', True, False or a mask")
    if isinstance(choice, str | Along | bool):
        return choice
    return bool(choice) if isinstance(choice, np.bool_) else closed_mask(choice, where)


def closed_mask(mask: Float[np.ndarray, "..."], where: str | None = None) -> Bool[np.ndarray, "3 3"]:
    """Convert a mask in ASE's format, Voigt (6,) or (3, 3), to a symmetric 3 x 3 array of bools.

    Raises:
        MlipError: the mask has another shape or is not closed. Deformations within the free components must compose to
            deformations within the free components (xy needs xx and yy; xy and yz need xz), otherwise the logarithm of
            the cell leaves the mask after the first step.
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
    """Projection of a flattened tensor (row by row) onto the allowed strains.

    Args:
        mask: closed in the sense of `closed_mask`.
        symmetric: projection onto the strains that preserve a symmetry.
        constant_volume: allow only strains without a trace; for a mask of a plane or a line this fixes the area or
            length.
        hydrostatic: allow only the uniform expansion along all directions of the mask.
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
    """Projection onto the intersection of the ranges of two projections."""
    values, vectors = np.linalg.eigh(one @ other @ one)
    kept = vectors[:, values > 1 - 1e-6]
    return kept @ kept.T


def aligned_frame(cell: Float[np.ndarray, "3 3"], directions: Bool[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation Q (rows rotate as r Q) after which the given cell vectors span Cartesian axes.

    It is the identity if they already do, so that a cell in the usual setting keeps its axes; otherwise the first
    vector is along x, the second in the xy plane.
    """
    vectors = np.asarray(cell, dtype=np.float64)[directions]
    if len(vectors) in (0, 3) or _axes_touched(vectors).sum() == len(vectors):
        return np.eye(3)
    basis, _ = np.linalg.qr(vectors.T, mode="complete")
    return basis


def span_mask(cell: Float[np.ndarray, "3 3"], directions: Bool[np.ndarray, " 3"]) -> Bool[np.ndarray, "3 3"]:
    """Strain components within the span of the given cell vectors, in their `aligned_frame`."""
    if np.all(directions):
        return np.ones((3, 3), dtype=bool)
    touched = _axes_touched(np.asarray(cell, dtype=np.float64)[directions])
    return np.outer(touched, touched)


def _axes_touched(vectors: Float[np.ndarray, "k 3"]) -> Bool[np.ndarray, " 3"]:
    """Which Cartesian axes the vectors have components along, apart from rounding."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (np.abs(vectors) > 1e-4 * lengths).any(axis=0)
