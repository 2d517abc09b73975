"""MACE's functions of the bond length: Bessel functions with a polynomial cutoff. Their argument is the length, or its
Agnesi transform, which uses the elements' covalent radii to resolve short bonds (Batatia et al., arXiv:2401.00096).

Lengths are in A. All functions are finite for any positive length, and the cutoff function is exactly zero from the
cutoff on.
"""

import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from jaxtyping import Array, Float, Int

_AGNESI = {"a": 1.0805, "q": 0.9183, "p": 4.5791}  # from ACEpotentials.jl, used by all published models


def polynomial_cutoff(
    distances: Float[Array, " e"], cutoff: float | Float[Array, " e"], power: int
) -> Float[Array, " e"]:
    """Cutoff function: one at zero, zero with two derivatives at the cutoff (Gasteiger et al., arXiv:2003.03123, eq.
    8)."""
    x = distances / cutoff
    p = power
    inside = x < 1.0
    x = jnp.where(inside, x, 1.0)
    value = 1.0 - x**p * ((p + 1) * (p + 2) / 2 - x * (p * (p + 2) - x * (p * (p + 1) / 2)))
    return jnp.where(inside, value, 0.0)


def bessel_functions(distances: Float[Array, " e"], n_functions: int, cutoff: float) -> Float[Array, "e n"]:
    """Bessel functions sqrt(2/rc) sin(n pi r/rc) / r, n = 1 .. n_functions, without a cutoff function."""
    frequencies = jnp.asarray(np.pi / cutoff * np.arange(1, n_functions + 1), distances.dtype)
    return np.sqrt(2 / cutoff) * jnp.sin(distances[:, None] * frequencies) / distances[:, None]


def agnesi_transform(
    distances: Float[Array, " e"], numbers_a: Int[Array, " e"], numbers_b: Int[Array, " e"]
) -> Float[Array, " e"]:
    """Agnesi transform 1 / (1 + a s^q / (1 + s^(q - p))); s is the length over the mean covalent radius of the two
    elements."""
    a, q, p = _AGNESI["a"], _AGNESI["q"], _AGNESI["p"]
    radii = covalent_radius(distances.dtype)
    s = distances / (0.5 * (radii[numbers_a] + radii[numbers_b]))
    return 1.0 / (1.0 + a * s**q / (1.0 + s ** (q - p)))


def covalent_radius(dtype: jnp.dtype) -> Float[Array, "119"]:
    """ASE's covalent radii by atomic number, A."""
    return jnp.asarray(covalent_radii, dtype)
