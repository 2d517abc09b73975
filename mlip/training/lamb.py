"""LAMB and look-ahead as in CrabNet's code (A. Y.-T. Wang et al., npj Comput. Mater. 7, 77, 2021).

Both differ from the published methods of these names and from optax's:

- LAMB (Y. You et al., ICLR 2020) does not correct the bias of the moments here, and limits a parameter's norm to 10;
- look-ahead (M. R. Zhang et al., NeurIPS 2019) sets its slow parameters at the first synchronization, not at step 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

_B1, _B2, _EPSILON = 0.9, 0.999, 1e-6
_LARGEST_NORM = 10.0


class LambState(NamedTuple):
    """State of `scale_by_lamb`; both trees have the structure of the parameters."""

    mean: PyTree
    """Moving average of the gradient, initially zero."""
    square: PyTree
    """Moving average of the squared gradient, initially zero."""


def scale_by_lamb() -> optax.GradientTransformation:
    """Transformation from a gradient to a direction: that of Adam, scaled to the norm of the respective parameter.

    If the parameter or the direction has norm zero, Adam's direction is not scaled.
    """

    def init(params: PyTree) -> LambState:
        return LambState(optax.tree.zeros_like(params), optax.tree.zeros_like(params))

    def update(gradient: PyTree, state: LambState, params: PyTree) -> tuple[PyTree, LambState]:
        mean = optax.tree.update_moment(gradient, state.mean, _B1, 1)
        square = optax.tree.update_moment(gradient, state.square, _B2, 2)
        direction = jax.tree.map(_trusted, mean, square, params)
        return direction, LambState(mean, square)

    return optax.GradientTransformation(init, update)


def _trusted(mean: Float[Array, "*s"], square: Float[Array, "*s"], param: Float[Array, "*s"]) -> Float[Array, "*s"]:
    adam = mean / (jnp.sqrt(square) + _EPSILON)
    length, wanted = _norm(adam), jnp.minimum(_norm(param), _LARGEST_NORM)
    has_both = (length > 0) & (wanted > 0)
    return jnp.where(has_both, wanted / jnp.where(has_both, length, 1.0), 1.0) * adam


def _norm(array: Float[Array, "*s"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(array**2))


class LookaheadState(NamedTuple):
    """State of `look_ahead`, which contains that of the optimizer."""

    count: Int[Array, ""]
    """Number of steps so far."""
    slow: PyTree
    """Slow parameters, zeros before the first synchronization."""
    inner: PyTree
    """State of the optimizer of the fast steps."""


def look_ahead(reached: PyTree, state: LookaheadState, period: int, share: float) -> tuple[PyTree, LookaheadState]:
    """Parameters and state after a fast step. Every `period` steps, the slow parameters move the fraction `share` of
    the way towards the fast ones, which are then reset to them.

    The first synchronization only copies the parameters.

    Args:
        reached: parameters after the fast step.
        state: previous state, with `inner` already updated by that step.
    """
    count = state.count + 1
    meets, is_first = count % period == 0, count == period
    slow = jax.tree.map(
        lambda s, p: jnp.where(meets, jnp.where(is_first, p, s + share * (p - s)), s), state.slow, reached
    )
    params = jax.tree.map(lambda p, s: jnp.where(meets, s, p), reached, slow)
    return params, LookaheadState(count, slow, state.inner)
