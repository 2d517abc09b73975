"""The optimiser as an optax chain: clip, Adam (AdamW, AMSGrad), schedule. And the parameters' average."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from mlip.training.recipe import TrainRecipe


def learning_rate_schedule(recipe: TrainRecipe, n_steps: int) -> optax.Schedule:
    """step -> learning rate: linear warm-up from 0, then constant, or a half cosine or an exponential down to
    `final_fraction` of the peak at step `n_steps`."""
    peak, warmup = recipe.learning_rate, recipe.warmup_steps
    decay_steps = max(n_steps - warmup, 1)
    if recipe.schedule == "cosine":
        decay = optax.cosine_decay_schedule(peak, decay_steps, alpha=recipe.final_fraction)
    elif recipe.schedule == "exponential":
        decay = optax.exponential_decay(peak, decay_steps, recipe.final_fraction)
    else:
        decay = optax.constant_schedule(peak)
    if not warmup:
        return decay
    # The first update already moves: step 0 of the ramp is peak / warmup, not 0.
    ramp = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([ramp, decay], [warmup])


def make_optimizer(recipe: TrainRecipe, n_steps: int) -> optax.GradientTransformation:
    """The recipe's optimiser for a run of `n_steps` steps. Its state counts the updates it made, so a skipped
    step does not advance the schedule."""
    direction = optax.scale_by_amsgrad() if recipe.optimizer == "amsgrad" else optax.scale_by_adam()
    steps = [optax.clip_by_global_norm(recipe.clip_norm)] if recipe.clip_norm else []
    steps.append(direction)
    if recipe.weight_decay:
        steps.append(optax.add_decayed_weights(recipe.weight_decay))
    return optax.chain(*steps, optax.scale_by_learning_rate(learning_rate_schedule(recipe, n_steps)))


def update_average(average: PyTree, params: PyTree, decay: float, n_updates: Int[Array, ""]) -> PyTree:
    """The exponential moving average after one more update. The decay grows as (1 + n) / (10 + n) up to its
    value, so that a short run does not average in its random start."""
    decay = jnp.minimum(decay, (1 + n_updates) / (10 + n_updates))
    return jax.tree.map(lambda a, p: (decay * a + (1 - decay) * p).astype(p.dtype), average, params)
