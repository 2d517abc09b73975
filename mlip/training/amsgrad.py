"""AMSGrad (Reddi, Kale and Kumar, ICLR 2018) as PyTorch has it: MACE's recipes are made for that one.

The paper's denominator is the largest mean square of the gradient so far. PyTorch corrects it for the bias of a mean
that starts from zero after taking the largest, optax before. But the first means, corrected, are the squares of single
gradients: those of a random network would go on slowing all later steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

_B1, _B2, _EPSILON = 0.9, 0.999, 1e-8


class AMSGradState(NamedTuple):
    """Trees as the parameters."""

    count: Int[Array, ""]
    """Steps."""
    mean: PyTree
    """Moving average of the gradient."""
    square: PyTree
    """Moving average of the gradient's square."""
    largest: PyTree
    """Largest value of `square` so far."""


def scale_by_amsgrad() -> optax.GradientTransformation:
    """Gradient -> direction of a step of size one."""

    def init(params: PyTree) -> AMSGradState:
        # Three trees, not one three times: a step reuses the buffers of its state.
        return AMSGradState(jnp.zeros((), jnp.int32), *(optax.tree.zeros_like(params) for _ in range(3)))

    def update(gradient: PyTree, state: AMSGradState, params: PyTree | None = None) -> tuple[PyTree, AMSGradState]:
        del params
        count = state.count + 1
        mean = optax.tree.update_moment(gradient, state.mean, _B1, 1)
        square = optax.tree.update_moment(gradient, state.square, _B2, 2)
        largest = jax.tree.map(jnp.maximum, state.largest, square)
        direction = jax.tree.map(
            lambda m, v: m / (jnp.sqrt(v) + _EPSILON),
            optax.tree.bias_correction(mean, _B1, count),
            optax.tree.bias_correction(largest, _B2, count),
        )
        return direction, AMSGradState(count, mean, square, largest)

    return optax.GradientTransformation(init, update)
