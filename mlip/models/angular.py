"""Angular functions: real spherical harmonics whose products over m give Legendre polynomials.

The addition theorem, sum_m C_lm(a) C_lm(b) = P_l(a . b) for unit vectors a and b, turns sums over triplets into
products of densities on atoms.
"""

import e3nn_jax as e3nn
from jaxtyping import Array, Float

from mlip.runtime import products_in


def racah_harmonics(unit_vectors: Float[Array, "e 3"], n_orders: int) -> list[Float[Array, "e m"]]:
    """Racah-normalized real harmonics C_lm for l = 0 .. n_orders - 1, one array (e, 2l + 1) per order.

    Args:
        unit_vectors: vectors of length one; the caller normalizes them and handles the gradient of the normalization.
    """
    orders = [e3nn.Irrep(order, (-1) ** order) for order in range(n_orders)]
    with products_in("highest"):
        harmonics = e3nn.spherical_harmonics(
            e3nn.Irreps([(1, order) for order in orders]),
            e3nn.IrrepsArray("1o", unit_vectors),
            normalize=False,
            normalization="norm",
        )
    return [chunk[:, 0, :] for chunk in harmonics.chunks]
