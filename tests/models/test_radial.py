"""Radial functions against SciPy and against the original's constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from mlip.models.radial import (
    smooth_bessel_basis,
    smoothstep_cutoff,
    spherical_bessel,
    spherical_bessel_basis,
    spherical_bessel_roots,
)


def test_roots_are_the_published_ones(shared):
    published = np.load(shared / "goldens/m3gnet/constants.npz")["sb_roots"]
    # The published table was solved to about 1e-12.
    np.testing.assert_allclose(spherical_bessel_roots(5, 5), published[:5, :5], atol=1e-11)


@pytest.mark.parametrize("order", range(5))
def test_bessel_functions_are_scipys_from_tiny_to_large_arguments(order):
    x = np.concatenate([np.geomspace(1e-4, 1, 200), np.linspace(1, 20, 400)])
    with jax.enable_x64(True):
        np.testing.assert_allclose(spherical_bessel(order, jnp.asarray(x)), special.spherical_jn(order, x), atol=1e-14)
    in_float32 = spherical_bessel(order, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(in_float32, special.spherical_jn(order, x), atol=2e-7)


def test_bessel_basis_is_orthonormal_on_the_sphere():
    r = np.linspace(1e-6, 5, 4001)
    with jax.enable_x64(True):
        basis = np.asarray(spherical_bessel_basis(jnp.asarray(r), 3, 4, 5.0))
    for order in range(3):
        overlap = integrate.simpson(
            basis[:, order, :, None] * basis[:, order, None, :] * r[:, None, None] ** 2, x=r, axis=0
        )
        np.testing.assert_allclose(overlap, np.eye(4), atol=1e-8)


@pytest.mark.parametrize(
    "function", [lambda d: smooth_bessel_basis(d[None], 4, 5.0).sum(), lambda d: smoothstep_cutoff(d[None], 5.0)[0]]
)
def test_value_and_two_derivatives_vanish_at_the_cutoff(function):
    with jax.enable_x64(True):
        just_inside = jnp.asarray(5.0 - 1e-7)
        values = [function(just_inside), jax.grad(function)(just_inside), jax.grad(jax.grad(function))(just_inside)]
        np.testing.assert_allclose(values, 0.0, atol=1e-4)
        assert function(jnp.asarray(5.0 + 1e-7)) == 0.0
        assert jax.grad(function)(jnp.asarray(6.0)) == 0.0
