"""The optimizer as an optax chain: clipping, Adam (AdamW, AMSGrad, LAMB) or Muon, weight decay, optionally with
look-ahead; and the choice of trained parameters."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, PyTree

from mlip.errors import MlipError
from mlip.training.amsgrad import scale_by_amsgrad
from mlip.training.lamb import LookaheadState, look_ahead, scale_by_lamb
from mlip.training.recipe import TrainRecipe

_SCALINGS = {"amsgrad": scale_by_amsgrad, "lamb": scale_by_lamb}
"""Gradient scalings of the optimizers other than Adam, AdamW and Muon."""


def initial_optimizer_state(recipe: TrainRecipe, params: PyTree) -> PyTree:
    """State of the optimizer before the first step."""
    state = make_optimizer(recipe, params).init(params)
    if recipe.lookahead is None:
        return state
    return LookaheadState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), state)


def move(
    recipe: TrainRecipe,
    params: PyTree,
    gradient: PyTree,
    state: PyTree,
    learning_rate: Float[Array, ""],
    momentum: Float[Array, ""] | None = None,
) -> tuple[PyTree, PyTree]:
    """Parameters and optimizer state after one step.

    Args:
        momentum: Adam's first beta for this step, if the schedule changes it.
    """
    ahead = recipe.lookahead
    optimizer = make_optimizer(recipe, params, momentum)
    direction, inner = optimizer.update(gradient, state if ahead is None else state.inner, params)
    reached = descend(params, direction, learning_rate)
    if ahead is None:
        return reached, inner
    return look_ahead(reached, state._replace(inner=inner), ahead.period, ahead.share)


def make_optimizer(
    recipe: TrainRecipe, params: PyTree, momentum: Float[Array, ""] | None = None
) -> optax.GradientTransformation:
    """Optimizer of the recipe for these parameters. Its updates are directions; `descend` applies the learning rate of
    each step. Frozen parameters have no state and do not contribute to the gradient norm.

    Raises:
        MlipError: a pattern of `frozen` or `decayed` matches no parameter, or nothing is left to train.
    """
    decayed = matching(params, recipe.decayed, "train.decayed")
    frozen = matching(params, recipe.frozen, "train.frozen")
    if all(jax.tree.leaves(frozen)):
        raise MlipError("all parameters are frozen: nothing to train", where="train.frozen")
    steps = [optax.clip_by_global_norm(recipe.clip_norm)] if recipe.clip_norm else []
    if recipe.optimizer == "muon":
        is_left_out = jax.tree.map(lambda param, is_frozen: is_frozen or np.ndim(param) != 2, params, frozen)
        steps.append(_muon(recipe.weight_decay, _kept(decayed, is_left_out)))
    else:
        steps += _adam_like(recipe, _kept(decayed, frozen), momentum)
    chain = optax.chain(*steps)
    if not recipe.frozen:
        return chain
    labels = jax.tree.map(lambda is_frozen: "frozen" if is_frozen else "trained", frozen)
    return optax.partition({"frozen": optax.set_to_zero(), "trained": chain}, labels)


def _adam_like(
    recipe: TrainRecipe, mask: Callable[[PyTree], PyTree], momentum: Float[Array, ""] | None
) -> list[optax.GradientTransformation]:
    decay = [optax.add_decayed_weights(recipe.weight_decay, mask)] if recipe.weight_decay else []
    options = {} if momentum is None else {"b1": momentum}
    scaling = [_SCALINGS.get(recipe.optimizer, optax.scale_by_adam)(**options)]
    return scaling + decay if recipe.optimizer == "adamw" else decay + scaling


def _muon(weight_decay: float, mask: Callable[[PyTree], PyTree]) -> optax.GradientTransformation:
    """optax's Muon. Its updates point downhill; the learning rate -1 turns them into directions for `descend`.

    Args:
        mask: of the tree that contains only matrices.
    """
    return optax.contrib.muon(learning_rate=-1.0, weight_decay=weight_decay, weight_decay_mask=mask)


def _kept(decayed: PyTree, frozen: PyTree) -> Callable[[PyTree], PyTree]:
    """Mask of decaying parameters for a chain that sees only the trained ones, with frozen ones as empty nodes."""

    def mask(params: PyTree) -> PyTree:
        flags = iter(jax.tree.leaves(jax.tree.map(lambda d, f: None if f else d, decayed, frozen)))
        return jax.tree.map(lambda _: next(flags), params)

    return mask


def matching(params: PyTree, patterns: Sequence[str], where: str) -> PyTree:
    """Whether a shell pattern, e.g. "embedding/*", matches the name of each parameter.

    Raises:
        MlipError: a pattern matches nothing.
    """
    names = parameter_names(params)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            rooms = ", ".join(dict.fromkeys(f"{name.split('/')[0]}/*" for name in names))
            raise MlipError(f"no parameter is called {pattern!r}", where=where, fix=f"known: {rooms}")
    flat = {key: any(fnmatchcase("/".join(key), pattern) for pattern in patterns) for key in flatten_dict(params)}
    return unflatten_dict(flat)


def parameter_names(params: PyTree) -> list[str]:
    """Names of the parameters, e.g. "block_0/edge_mlp/kernel"."""
    return ["/".join(key) for key in flatten_dict(params)]


def descend(params: PyTree, direction: PyTree, learning_rate: Float[Array, ""]) -> PyTree:
    """Parameters after one step against a direction."""
    return jax.tree.map(lambda p, d: (p - learning_rate * d).astype(p.dtype), params, direction)


def update_average(average: PyTree, params: PyTree, decay: Float[Array, ""]) -> PyTree:
    """decay * average + (1 - decay) * parameters; bit for bit the average if decay is 1 or both are equal."""
    return jax.tree.map(
        lambda a, p: jnp.where(decay < 1, p + decay * (a - p), a).astype(p.dtype),
        average,
        params,
    )
