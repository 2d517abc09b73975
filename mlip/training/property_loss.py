"""Losses of a property: between a network's two outputs and the normalised target.

The robust ones let the network say how uncertain it is: sigma = exp(second output) scales the error and is paid for, as
the standard deviation of a Laplace ("mae") or normal ("mse") distribution (A. Kendall and Y. Gal, NeurIPS 2017).
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

PropertyLoss = Literal["mae", "mse", "robust_mae", "robust_mse"]


def property_loss(
    outputs: Float[Array, "c 2"], targets: Float[Array, " c"], counts: Bool[Array, " c"], kind: PropertyLoss
) -> Float[Array, ""]:
    """Mean over the crystals that count; what a target holds elsewhere, NaN included, does not matter."""
    predicted, log_sigma = outputs[:, 0], outputs[:, 1]
    error = predicted - jnp.where(counts, targets, 0.0)
    penalty = {
        "mae": lambda: jnp.abs(error),
        "mse": lambda: error**2,
        "robust_mae": lambda: 2**0.5 * jnp.abs(error) * jnp.exp(-log_sigma) + log_sigma,
        "robust_mse": lambda: 0.5 * error**2 * jnp.exp(-2 * log_sigma) + log_sigma,
    }[kind]()
    return jnp.where(counts, penalty, 0.0).sum() / jnp.maximum(counts.sum(), 1)
