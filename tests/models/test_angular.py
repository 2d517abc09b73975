"""The addition theorem, on which the triplet-free form stands."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from mlip.models.angular import racah_harmonics


def test_products_of_harmonics_summed_over_m_are_legendre_polynomials():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 50, 3))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    with jax.enable_x64(True):
        of_a, of_b = racah_harmonics(jnp.asarray(a), 5), racah_harmonics(jnp.asarray(b), 5)
        products = [np.asarray((c_a * c_b).sum(axis=1)) for c_a, c_b in zip(of_a, of_b, strict=True)]
    for order, product in enumerate(products):
        np.testing.assert_allclose(product, special.eval_legendre(order, (a * b).sum(axis=1)), atol=1e-13)
