"""Linear layers that begin as PyTorch's do: weights and biases uniform within 1 / sqrt(inputs) of zero.

flax begins with other numbers; networks that were developed in PyTorch train best from their own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

Initializer = Callable[..., Float[Array, "..."]]

LEAKY_SLOPE = 0.01


def uniform_by_inputs(n_inputs: int) -> Initializer:
    """For a kernel or a bias of a layer with so many inputs."""
    bound = n_inputs**-0.5

    def initialize(key, shape, dtype=jnp.float32) -> Float[Array, "..."]:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


def linear(features: int, n_inputs: int, name: str, use_bias: bool = True) -> nn.Dense:
    """nn.Linear."""
    initialize = uniform_by_inputs(n_inputs)
    return nn.Dense(features, use_bias=use_bias, kernel_init=initialize, bias_init=initialize, name=name)


def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(x, LEAKY_SLOPE * x)


class TwoLayers(nn.Module):
    """Linear, leaky ReLU, linear."""

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        hidden = leaky_relu(linear(self.hidden, x.shape[-1], "hidden")(x))
        return linear(self.features, self.hidden, "out")(hidden)
