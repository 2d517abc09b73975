"""Radial functions: spherical Bessel functions, M3GNet's smooth basis and polynomial cutoffs.

Distances are in A; the smooth basis and the cutoff functions are exactly zero beyond the cutoff.
"""

from functools import cache
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import optimize, special


@cache
def spherical_bessel_roots(n_orders: int, n_roots: int) -> Float[np.ndarray, "l n"]:
    """First `n_roots` positive zeros z_ln of the spherical Bessel functions j_0 .. j_(n_orders - 1).

    The zeros of j_l interlace those of j_(l-1), which brackets each for the root finder.
    """
    brackets = np.pi * np.arange(1, n_roots + n_orders + 1)
    rows = [brackets[:n_roots]]
    for order in range(1, n_orders):
        brackets = np.array([_bessel_zero(order, low, high) for low, high in pairwise(brackets)])
        rows.append(brackets[:n_roots])
    return np.stack(rows)


def _bessel_zero(order: int, low: float, high: float) -> float:
    return optimize.brentq(lambda x: special.spherical_jn(order, x), low, high, xtol=1e-14, rtol=1e-15)


def spherical_bessel(order: int, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Spherical Bessel function j_order(x) for x > 0, accurate to rounding even where the recurrence cancels (small
    x)."""
    small = x < order + 0.5
    return jnp.where(
        small,
        _bessel_series(order, jnp.where(small, x, 0.0)),
        _bessel_recurrence(order, jnp.where(small, order + 1.0, x)),
    )


def _bessel_series(order: int, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Ascending series of j_order; for l <= 4 and x < l + 1/2, truncation after 12 terms leaves an error below 1e-16 of
    j_l."""
    half_square = 0.5 * x * x
    total = jnp.ones_like(x)
    for k in range(12, 0, -1):
        total = 1.0 - half_square / (k * (2 * order + 2 * k + 1)) * total
    return total * x**order / special.factorial2(2 * order + 1)


def _bessel_recurrence(order: int, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Upward recurrence j_(l+1) = (2l + 1)/x j_l - j_(l-1); stable for x > l."""
    current = jnp.sin(x) / x
    if order == 0:
        return current
    previous, current = current, (current - jnp.cos(x)) / x
    for step in range(1, order):
        previous, current = current, (2 * step + 1) / x * current - previous
    return current


def spherical_bessel_basis(
    distances: Float[Array, " e"], n_orders: int, n_radial: int, cutoff: float
) -> Float[Array, "e l n"]:
    """Basis orthonormal on [0, cutoff]: sqrt(2/rc^3) / |j_(l+1)(z_ln)| * j_l(z_ln d/rc)."""
    roots = spherical_bessel_roots(n_orders, n_radial)
    return jnp.stack(
        [
            spherical_bessel(order, distances[:, None] * jnp.asarray(roots[order] / cutoff, distances.dtype))
            * jnp.asarray(
                np.sqrt(2 / cutoff**3) / np.abs(special.spherical_jn(order + 1, roots[order])),
                distances.dtype,
            )
            for order in range(n_orders)
        ],
        axis=1,
    )


def smooth_bessel_basis(distances: Float[Array, " e"], n_radial: int, cutoff: float) -> Float[Array, "e n"]:
    """Smooth basis of Kocer, Mason and Erturk (AIP Adv. 10, 015021, 2020), M3GNet's h_ij.

    The value and the first two derivatives vanish at the cutoff; zero beyond it.
    """
    n = np.arange(n_radial)
    norms = (-1.0) ** n * np.sqrt(2) * np.pi / cutoff**1.5 * (n + 1) * (n + 2) / np.hypot(n + 1, n + 2)
    x = distances[:, None] / cutoff
    raw = jnp.asarray(norms, distances.dtype) * (
        jnp.sinc(x * jnp.asarray(n + 1.0, distances.dtype)) + jnp.sinc(x * jnp.asarray(n + 2.0, distances.dtype))
    )
    mixing = jnp.asarray(_smooth_basis_mixing(n_radial), distances.dtype)
    basis = jnp.matmul(raw, mixing, precision="highest")
    return jnp.where(distances[:, None] < cutoff, basis, 0.0)


@cache
def _smooth_basis_mixing(n_radial: int) -> Float[np.ndarray, "n n"]:
    """Matrix M of the Gram-Schmidt recursion g_n = (f_n + sqrt(e_n / D_(n-1)) g_(n-1)) / sqrt(D_n), so that g = f M."""
    mixing = np.zeros((n_radial, n_radial))
    mixing[0, 0] = 1.0
    previous_d = 1.0
    for n in range(1, n_radial):
        e = n**2 * (n + 2) ** 2 / (4 * (n + 1) ** 4 + 1)
        d = 1 - e / previous_d
        mixing[:, n] = np.sqrt(e / previous_d) * mixing[:, n - 1] / np.sqrt(d)
        mixing[n, n] = 1 / np.sqrt(d)
        previous_d = d
    return mixing


def smoothstep_cutoff(distances: Float[Array, " e"], cutoff: float) -> Float[Array, " e"]:
    """Cutoff function 1 - 10 x^3 + 15 x^4 - 6 x^5, x = d/cutoff: one at 0, zero with two derivatives at the cutoff."""
    x = distances / cutoff
    return jnp.where(x < 1.0, 1.0 - x**3 * (10.0 - x * (15.0 - 6.0 * x)), 0.0)
