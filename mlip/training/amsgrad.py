"""AMSGrad (Reddi, Kale and Kumar, ICLR 2018) as implemented in PyTorch, for which MACE's recipes were tuned.

The denominator of the paper is the largest mean square of the gradient so far. PyTorch corrects its initialization bias
after taking the maximum, optax before. But the first bias-corrected means are the squares of single gradients, and
those of a random network would slow down all later steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

_B1, _B2, _EPSILON = 0.9, 0.999, 1e-8


class AMSGradState(NamedTuple):
    """State of AMSGrad; the trees have the structure of the parameters."""

    count: Int[Array, ""]
    """Number of steps."""
    mean: PyTree
    """Moving average of the gradient."""
    square: PyTree
    """Moving average of the squared gradient."""
    largest: PyTree
    """Largest value of `square` so far."""


def scale_by_amsgrad() -> optax.GradientTransformation:
    """Transformation from a gradient to the direction of a step with learning rate one."""

    def init(params: PyTree) -> AMSGradState:
        # Three separate trees, because a step reuses the buffers of its state.
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
