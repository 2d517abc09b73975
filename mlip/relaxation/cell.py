"""The cell as degrees of freedom: the logarithm of its deformation, as in ASE's FrechetCellFilter (3.29).

With x the positions and cell_0 the cell in the undeformed frame, and F = exp(L):

    positions = x F^T      cell = cell_0 F^T

The optimiser moves x and n L (n atoms: ASE's default `exp_cell_factor`). The gradient with respect to L is the
adjoint of exp's Frechet derivative, which is what reverse differentiation of exp computes.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool, Float

from mlip.errors import MlipError
from mlip.units import VOIGT

CellChoice = Literal["auto"] | bool | Bool[np.ndarray, "6"] | Bool[np.ndarray, "3 3"]
"""Which strain components may relax: the periodic directions, all, none, or a mask (Voigt or 3 x 3)."""

_SQUARINGS = 4
_TAYLOR_ORDER = 11


def expm(matrix: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3 3"]:
    """Matrix exponential of 3 x 3 matrices with entries of order one, to float64 rounding.

    A fixed Taylor order after a fixed scaling (truncation < 1e-15 for norms up to 3, beyond the strain guard):
    no branches and no linear solves, unlike the general `jax.scipy.linalg.expm`.
    """
    scaled = matrix / 2**_SQUARINGS
    identity = jnp.eye(3, dtype=matrix.dtype)
    result = identity
    for order in range(_TAYLOR_ORDER, 0, -1):
        result = identity + scaled @ result / order
    for _ in range(_SQUARINGS):
        result = result @ result
    return result


def expm_host(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Matrix exponential in float64 on the host."""
    return scipy.linalg.expm(np.asarray(matrix, dtype=np.float64))


def cell_forces(
    stress: Float[Array, "g 6"],
    volume: Float[Array, " g"],
    log_deformation: Float[Array, "g 3 3"],
    mask: Float[Array, "g 3 3"],
    n_atoms: Float[Array, " g"],
) -> Float[Array, "g 3 3"]:
    """The force rows of the cell: -dE/dL over the number of atoms, of the strain components that may relax.

    Args:
        stress: eV/A^3, ASE's Voigt order and sign.
        mask: 1 where the component may relax; closed in the sense of `closed_mask`.
    """
    virial = -volume[:, None, None] * tensor_from_voigt(stress) * mask
    inverse = expm(-log_deformation)
    _, pull_back = jax.vjp(expm, log_deformation)
    (gradient,) = pull_back(virial @ inverse.mT)
    return gradient * mask / n_atoms[:, None, None]


def tensor_from_voigt(voigt: Float[Array, "g 6"]) -> Float[Array, "g 3 3"]:
    """Batched, traceable counterpart of `mlip.units.tensor_from_voigt`."""
    xx, yy, zz, yz, xz, xy = jnp.moveaxis(voigt, -1, 0)
    rows = [jnp.stack(row, axis=-1) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))]
    return jnp.stack(rows, axis=-2)


def deform(rows: Float[np.ndarray, "n 3"], deformation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 3"]:
    """Row vectors (positions or lattice vectors) under a deformation gradient: r F^T."""
    return rows @ deformation.T


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


def aligned_frame(cell: Float[np.ndarray, "3 3"], periodic: Bool[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation Q (rows turn as r Q) after which the periodic directions of a layer or a chain span axes.

    Identity where they already do, so that a cell in the usual setting keeps its axes; else the first periodic
    vector goes along x, a second into the xy plane.
    """
    vectors = np.asarray(cell, dtype=np.float64)[periodic]
    touched = (np.abs(vectors) > 1e-4 * np.linalg.norm(vectors, axis=1, keepdims=True)).any(axis=0)
    if len(vectors) in (0, 3) or touched.sum() == len(vectors):
        return np.eye(3)
    basis, _ = np.linalg.qr(vectors.T, mode="complete")
    return basis


def periodic_mask(cell: Float[np.ndarray, "3 3"], periodic: Bool[np.ndarray, "3"]) -> Bool[np.ndarray, "3 3"]:
    """The strain components within the span of the periodic directions; the cell stands in `aligned_frame`."""
    if periodic.all():
        return np.ones((3, 3), dtype=bool)
    vectors = np.asarray(cell, dtype=np.float64)[periodic]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    touched = (np.abs(vectors) > 1e-4 * lengths).any(axis=0)
    return np.outer(touched, touched)
