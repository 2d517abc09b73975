"""MACE's functions of a bond's length: Bessel functions under a polynomial cutoff, on the length as it is or after an
Agnesi transform, which spreads short bonds apart by the elements' covalent radii (Batatia et al., arXiv:2401.00096).

Lengths are in A; everything here is exactly zero from its cutoff on, and finite for any positive length.
"""

import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from jaxtyping import Array, Float, Int

_AGNESI = {"a": 1.0805, "q": 0.9183, "p": 4.5791}  # ACEpotentials.jl's, as all published models have them


def polynomial_cutoff(
    distances: Float[Array, " e"], cutoff: float | Float[Array, " e"], power: int
) -> Float[Array, " e"]:
    """One at zero, zero with two derivatives at the cutoff (Gasteiger et al., arXiv:2003.03123, eq. 8)."""
    x = distances / cutoff
    p = power
    inside = x < 1.0
    x = jnp.where(inside, x, 1.0)
    value = 1.0 - x**p * ((p + 1) * (p + 2) / 2 - x * (p * (p + 2) - x * (p * (p + 1) / 2)))
    return jnp.where(inside, value, 0.0)


def bessel_functions(distances: Float[Array, " e"], n_functions: int, cutoff: float) -> Float[Array, "e n"]:
    """sqrt(2/rc) sin(n pi r/rc) / r, n = 1 .. n_functions; not cut off."""
    frequencies = jnp.asarray(np.pi / cutoff * np.arange(1, n_functions + 1), distances.dtype)
    return np.sqrt(2 / cutoff) * jnp.sin(distances[:, None] * frequencies) / distances[:, None]


def agnesi_transform(
    distances: Float[Array, " e"], numbers_a: Int[Array, " e"], numbers_b: Int[Array, " e"]
) -> Float[Array, " e"]:
    """1 / (1 + a s^q / (1 + s^(q - p))), s = r over the mean covalent radius of the two elements (atomic numbers)."""
    a, q, p = _AGNESI["a"], _AGNESI["q"], _AGNESI["p"]
    radii = covalent_radius(distances.dtype)
    s = distances / (0.5 * (radii[numbers_a] + radii[numbers_b]))
    return 1.0 / (1.0 + a * s**q / (1.0 + s ** (q - p)))


def covalent_radius(dtype: jnp.dtype) -> Float[Array, "119"]:
    """ASE's covalent radii by atomic number, A."""
    return jnp.asarray(covalent_radii, dtype)
