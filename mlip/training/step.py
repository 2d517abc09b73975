"""One training step and one validation step, as they run on every device.

A step with a non-finite loss or gradient leaves the state unchanged. All devices make the same decision, so that the
host need not wait for it before sending the next batch.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Bool, Float, PyTree
from jraph import GraphsTuple

from mlip.training.optimizer import initial_optimizer_state, move, update_average
from mlip.training.parallel import device_key, parallelize, sum_over_devices
from mlip.training.recipe import TrainRecipe
from mlip.training.schedule import Knobs
from mlip.training.task import Task
from mlip.training.terms import Counts, Sums, structure_losses, totals


class TrainState(NamedTuple):
    """Everything that a step changes; during training each leaf has a leading axis over devices."""

    params: PyTree
    average: PyTree
    """Moving average of `params` (or `params` themselves), which is validated and exported."""
    optimizer: PyTree


class StepReport(NamedTuple):
    """Report of a step, equal on all devices except for `structure_losses`."""

    loss: Float[Array, ""]
    terms: dict[str, Sums]
    gradient_norm: Float[Array, ""]
    """Norm of the gradient before clipping."""
    finite: Bool[Array, ""]
    """Whether loss and gradient are finite; otherwise the step was skipped."""
    structure_losses: Float[Array, "... g"]
    """Contribution of each structure on this device to the loss."""


def initial_state(params: PyTree, train: TrainRecipe) -> TrainState:
    """State before the first step; `params` are those of a starting model, or random."""
    return TrainState(params, params, initial_optimizer_state(train, params))


_OF_THE_HOST = (
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "ema_decay",
    "early_stopping",
    "seed",
    "validate_every",
    "checkpoint_every",
    "keep",
    "max_skipped",
)
"""Fields of a recipe's `train` that are not compiled into a step: arguments of the step, or used only by the loop."""
_OF_THE_DATA = ("materials", "largest", "mean", "std", "element_vectors")
"""Fields of a recipe's `property` that are not compiled into a step."""
_MOST_STEPS = 4
_known_steps: list[tuple[Callable, Task, Callable]] = []


def _as_compiled(make: Callable[[Task], Callable], task: Task) -> Callable:
    """The step that `make` creates for a task, or an existing one if the tasks differ only in fields that are not
    compiled in. Runs of one process (seeds, a resumed run) are thus traced and compiled once.

    Those fields are removed from the task, so that reading them fails.
    """
    recipe = task.recipe
    known = {"train": recipe.train.model_copy(update=dict.fromkeys(_OF_THE_HOST))}
    if recipe.property is not None:
        known["property"] = recipe.property.model_copy(update=dict.fromkeys(_OF_THE_DATA))
    hidden = dict.fromkeys(("data", "init_from", "stage_two", "out", "wandb_project"))
    bare = replace(task, recipe=recipe.model_copy(update=known | hidden))
    for its_make, its_task, step in _known_steps:
        if its_make is make and its_task == bare:
            return step
    step = make(bare)
    _known_steps[:] = [*_known_steps, (make, bare, step)][-_MOST_STEPS:]
    return step


def train_step_of(task: Task) -> Callable:
    """(state, batch, scale, knobs) -> (state, StepReport) on all devices; the buffers of the given state are reused.

    `scale`, the change of the target per unit of the network's output (one per head if there are several), is an
    argument, so that another data set uses the same program; so are the `Knobs`, which are the same on all devices.
    With `train.accumulate` the arrays of a batch have an axis of parts after that of devices.
    """
    return _as_compiled(_make_train_step, task)


def _make_train_step(task: Task) -> Callable:
    train = task.recipe.train

    def step(state: TrainState, batch: GraphsTuple, scale: Float[Array, "*h"], knobs: Knobs):
        counts = _counts(batch, task)
        # Divided by the counts over all devices: the sum of the devices' gradients is then the gradient of the batch.
        loss_of_part = partial(_loss, task, scale, counts, knobs)
        gradient_of_part = jax.value_and_grad(loss_of_part, has_aux=True)
        if train.accumulate == 1:
            (value, ((losses, terms), statistics)), gradient = gradient_of_part(state.params, batch)
        else:  # recipes exclude this for networks with batch statistics
            (value, (losses, terms)), gradient = _accumulate(partial(gradient_of_part, state.params), batch)
            statistics = {}
        value, terms, gradient = sum_over_devices((value, terms, gradient))
        terms = {name: Sums(*sums, counts[name]) for name, sums in terms.items()}
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)
        moved = _move(state, gradient, statistics, knobs, train)
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        return state, StepReport(value, terms, norm, finite, losses)

    return parallelize(step, donate=(0,), broadcast=(3,))


def _counts(batch: GraphsTuple, task: Task) -> Counts:
    """Number of labels in the whole batch, over all devices."""
    if task.recipe.train.accumulate == 1:
        return sum_over_devices(task.label_counts(batch))
    return sum_over_devices(jax.tree.map(jnp.sum, jax.vmap(task.label_counts)(batch)))


def _loss(task: Task, scale, counts: Counts, knobs: Knobs, params: PyTree, graph: GraphsTuple):
    """This device's part of the loss; the loss of each structure and the (penalty, absolute error) of each term; and
    the parameters that the batch replaces."""
    random = {"key": device_key(knobs.seed)} if task.is_random else {}
    terms, statistics = task.training_terms(params, graph, scale, task.recipe.train.matmul_precision, **random)
    losses = structure_losses(terms, counts, knobs.weights)
    sums = {name: (term.penalty.sum(), term.absolute_error) for name, term in terms.items()}
    return losses.sum(), ((losses, sums), statistics)


def _accumulate(gradient_of_part: Callable, parts: GraphsTuple):
    """Sums of value, terms and gradient over the parts, computed one at a time, and the losses of the structures."""

    def one_more(total, part):
        (value, ((losses, terms), _)), gradient = gradient_of_part(part)
        return jax.tree.map(jnp.add, total, (value, terms, gradient)), losses

    first = jax.tree.map(lambda array: array[0], parts)
    (value, ((_, terms), _)), gradient = jax.eval_shape(gradient_of_part, first)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (value, terms, gradient))
    (value, terms, gradient), losses = jax.lax.scan(one_more, nothing, parts)
    return (value, (losses, terms)), gradient


def _move(state: TrainState, gradient: PyTree, statistics: PyTree, knobs: Knobs, train: TrainRecipe) -> TrainState:
    params, optimizer_state = move(train, state.params, gradient, state.optimizer, knobs.learning_rate, knobs.momentum)
    if statistics:  # they have no gradient; any change by the optimizer, such as decay, is overwritten
        params = unflatten_dict(flatten_dict(params) | flatten_dict(statistics))
    return TrainState(params, update_average(state.average, params, knobs.average_decay), optimizer_state)


def validation_step_of(task: Task) -> Callable:
    """(params, batch, scale) -> the terms, summed over all devices."""
    return _as_compiled(_make_validation_step, task)


def _make_validation_step(task: Task) -> Callable:

    def step(params: PyTree, graph: GraphsTuple, scale: Float[Array, "*h"]) -> dict[str, Sums]:
        return sum_over_devices(totals(task.terms(params, graph, scale), task.label_counts(graph)))

    return parallelize(step)
