"""Linear layers initialized as in PyTorch: weights and biases are uniform within 1 / sqrt(inputs) of zero.

flax initializes differently; networks developed in PyTorch train best with PyTorch's initialization.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

Initializer = Callable[..., Float[Array, "..."]]

LEAKY_SLOPE = 0.01


def uniform_by_inputs(n_inputs: int) -> Initializer:
    """Initializer for the kernel or bias of a layer with this number of inputs."""
    bound = n_inputs**-0.5

    def initialize(key, shape, dtype=jnp.float32) -> Float[Array, "..."]:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


def linear(features: int, n_inputs: int, name: str, use_bias: bool = True) -> nn.Dense:
    """Dense layer with the initialization of PyTorch's nn.Linear."""
    initialize = uniform_by_inputs(n_inputs)
    return nn.Dense(features, use_bias=use_bias, kernel_init=initialize, bias_init=initialize, name=name)


def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(x, LEAKY_SLOPE * x)


class TwoLayers(nn.Module):
    """Linear layer, leaky ReLU, linear layer."""

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        hidden = leaky_relu(linear(self.hidden, x.shape[-1], "hidden")(x))
        return linear(self.features, self.hidden, "out")(hidden)
