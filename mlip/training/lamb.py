"""CrabNet's optimizer: LAMB with look-ahead, a triangular learning rate, and an average of the good parameters.

None of the four is the published method of its name, and none is optax's:

- LAMB (Y. You et al., ICLR 2020) here leaves the moments' bias uncorrected and counts a parameter's norm as 10 at most;
- look-ahead (M. R. Zhang et al., NeurIPS 2019) begins its slow parameters at the first synchronization, not at step 0;
- the average (P. Izmailov et al., UAI 2018) takes those parameters only that validate nearly as well as the best so
  far, begins anew on a large improvement, and weighs the newest more than a mean does.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

_B1, _B2, _EPSILON = 0.9, 0.999, 1e-6
_LARGEST_NORM = 10.0
_LOWEST_RATE, _HIGHEST_RATE = 1e-4, 6e-3
_BEGIN_ANEW, _NEARLY_BEST = 0.98, 1.01


class LambState(NamedTuple):
    """State of `scale_by_lamb`; both trees have the shape of the parameters."""

    mean: PyTree
    """Moving average of the gradient, from zero."""
    square: PyTree
    """Moving average of its square, from zero."""


def scale_by_lamb() -> optax.GradientTransformation:
    """Gradient -> direction of a step of size one: Adam's, of the length of the parameter it belongs to.

    A parameter, or a direction, of length zero has Adam's direction as it is.
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
    """State of `lookahead`."""

    count: Int[Array, ""]
    """Steps so far."""
    slow: PyTree
    """Slow parameters, zeros before the first synchronization."""
    inner: PyTree
    """State of the transformation that makes the fast steps."""


def lookahead(
    fast: optax.GradientTransformation, period: int = 6, share: float = 0.5
) -> optax.GradientTransformationExtraArgs:
    """After each `period` steps the parameters go back to slow ones, which go a `share` of the way to meet them.

    The first synchronization only copies the parameters. Unlike optax.lookahead it wraps plain parameters; `fast` must
    make complete updates, the learning rate included.
    """
    fast = optax.with_extra_args_support(fast)

    def init(params: PyTree) -> LookaheadState:
        return LookaheadState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), fast.init(params))

    def update(gradient: PyTree, state: LookaheadState, params: PyTree, **extra) -> tuple[PyTree, LookaheadState]:
        change, inner = fast.update(gradient, state.inner, params, **extra)
        count = state.count + 1
        meets, is_first = count % period == 0, count == period
        reached = optax.apply_updates(params, change)
        slow = jax.tree.map(
            lambda s, p: jnp.where(meets, jnp.where(is_first, p, s + share * (p - s)), s), state.slow, reached
        )
        change = jax.tree.map(lambda c, s, p: jnp.where(meets, s - p, c), change, slow, params)
        return change, LookaheadState(count, slow, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def lamb_with_lookahead() -> optax.GradientTransformationExtraArgs:
    """CrabNet's complete steps: `update(gradient, state, params, learning_rate=...)`, to be added to the parameters."""
    lamb = scale_by_lamb()

    def update(gradient, state, params, *, learning_rate, **_):
        direction, state = lamb.update(gradient, state, params)
        return jax.tree.map(lambda d: (-learning_rate * d).astype(d.dtype), direction), state

    return lookahead(optax.GradientTransformationExtraArgs(lamb.init, update))


def triangular_rate(step: int, half_period: int, lowest: float = _LOWEST_RATE, highest: float = _HIGHEST_RATE) -> float:
    """The learning rate of a step, from 0: up for half a period, down for another one, again and again.

    CrabNet's half period is the number of steps of an epoch: the rate is lowest after every second one.
    """
    phase = step / (2 * half_period) % 1
    return lowest + (highest - lowest) * (1 - abs(2 * phase - 1))


class GoodAverage(NamedTuple):
    """An average of parameters that validated well; all but `average` are numbers that JSON can hold."""

    average: PyTree
    count: int = 0
    """Additions since it began anew; the beginning counts."""
    best: float = 1e9
    """Smallest validation error so far."""
    begun_at: float = 1e9
    """Validation error at which the average last began."""
    is_good: bool = False
    """Whether the last parameters were added."""

    @classmethod
    def of(cls, params: PyTree) -> "GoodAverage":
        """Nothing is averaged yet; `average` is zeros."""
        return cls(optax.tree.zeros_like(params))

    def observe(self, params: PyTree, error: float) -> "GoodAverage":
        """The average after a validation of these parameters.

        It begins anew where the error is 2 % below that of its last beginning. Parameters within 1 % of the best error
        are added with a share of (1 / (count + 1))^(1/3): the newest ones weigh most. What begins is added, too.
        """
        average, count, begun_at = self.average, self.count, self.begun_at
        if error < _BEGIN_ANEW * begun_at:
            average, count, begun_at = params, 1, error
        best = min(error, self.best)
        is_good = error <= _NEARLY_BEST * best
        if is_good:
            share = (1 / (count + 1)) ** (1 / 3)
            average = jax.tree.map(lambda a, p: a + (p - a) * share, average, params)
            count += 1
        return GoodAverage(average, count, best, begun_at, is_good)
