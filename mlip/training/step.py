"""One training step and one validation step, as they run on every device.

A step whose loss or gradient is not finite leaves the state as it was: that is decided on the device, by all
devices alike, so that the host need not wait for the answer before it sends the next batch.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, PyTree
from jraph import GraphsTuple

from mlip.potential import energies_forces_stress
from mlip.property_model import evaluate
from mlip.training.loss import Counts, Sums, Terms, graph_of_node, label_counts, loss_terms, structure_losses, totals
from mlip.training.optimizer import descend, make_optimizer, update_average
from mlip.training.parallel import parallelise, sum_over_devices
from mlip.training.property_loss import property_counts, property_terms
from mlip.training.recipe import Recipe
from mlip.training.schedule import Knobs


class TrainState(NamedTuple):
    """All that a step changes; each leaf has a leading axis of devices while training."""

    params: PyTree
    average: PyTree
    """Moving average of `params` (without one: `params` themselves): what is validated and exported."""
    optimizer: PyTree


class StepReport(NamedTuple):
    """What a step says; equal on all devices but for `structure_losses`."""

    loss: Float[Array, ""]
    terms: dict[str, Sums]
    gradient_norm: Float[Array, ""]
    """Before clipping."""
    finite: Bool[Array, ""]
    """False: the step was skipped."""
    structure_losses: Float[Array, "... g"]
    """What each structure of this device added to the loss."""


def initial_state(params: PyTree, recipe: Recipe) -> TrainState:
    """Before the first step; `params` are a starting potential's, or random ones."""
    return TrainState(params, params, make_optimizer(recipe.train, params).init(params))


def scale_of_nodes(scale: Float[Array, "*h"], graph: GraphsTuple) -> Float[Array, "*n"]:
    """eV a unit of the model's output, for each node if heads differ."""
    return scale if scale.ndim == 0 else scale[graph.globals["head"][graph_of_node(graph)]]


def make_train_step(model: nn.Module, recipe: Recipe) -> Callable:
    """(state, batch, scale, knobs) -> (state, StepReport) on all devices; the given state's buffers are reused.

    `scale`, eV a unit of the model's output, for several heads one for each, is an argument so that another data set
    needs no other program; so are the `Knobs`, the same on all devices. With `train.accumulate` a batch's arrays have
    an axis of that many parts after that of devices.
    """

    def step(state: TrainState, batch: GraphsTuple, scale: Float[Array, "*h"], knobs: Knobs):
        counts = _counts(batch, recipe)
        # Divided by the counts of all devices: the sum of the devices' gradients is then the batch's gradient.
        loss_of_part = partial(_loss, model, recipe, scale, counts, knobs)
        gradient_of_part = jax.value_and_grad(loss_of_part, has_aux=True)
        if recipe.train.accumulate == 1:
            (value, (losses, terms)), gradient = gradient_of_part(state.params, batch)
        else:
            (value, (losses, terms)), gradient = _accumulate(partial(gradient_of_part, state.params), batch)
        value, terms, gradient = sum_over_devices((value, terms, gradient))
        terms = {name: Sums(*sums, counts[name]) for name, sums in terms.items()}
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)
        moved = _move(state, gradient, knobs, recipe)
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        return state, StepReport(value, terms, norm, finite, losses)

    return parallelise(step, donate=(0,), broadcast=(3,))


def _counts(batch: GraphsTuple, recipe: Recipe) -> Counts:
    """Labels of the whole batch, all devices together."""
    if recipe.train.accumulate == 1:
        return sum_over_devices(_labels(batch, recipe))
    return sum_over_devices(jax.tree.map(jnp.sum, jax.vmap(partial(_labels, recipe=recipe))(batch)))


def _labels(batch: GraphsTuple, recipe: Recipe) -> Counts:
    return label_counts(batch) if recipe.property is None else property_counts(batch)


def _terms(model: nn.Module, recipe: Recipe, scale: Array, params: PyTree, graph: GraphsTuple) -> Terms:
    if recipe.property is not None:
        return property_terms(evaluate(model, params, graph), graph, recipe.property.loss, scale)
    prediction = energies_forces_stress(model, params, graph, scale_of_nodes(scale, graph), shift=0.0)
    return loss_terms(prediction, graph, recipe.loss)


def _loss(model: nn.Module, recipe: Recipe, scale, counts: Counts, knobs: Knobs, params: PyTree, graph: GraphsTuple):
    """This device's part of the loss, with each structure's and the (penalty, absolute error) of the terms."""
    terms = _terms(model, recipe, scale, params, graph)
    losses = structure_losses(terms, counts, knobs.weights)
    return losses.sum(), (losses, {name: (term.penalty.sum(), term.absolute_error) for name, term in terms.items()})


def _accumulate(gradient_of_part: Callable, parts: GraphsTuple):
    """Value, sums and gradient added up over the parts, one at a time; the structures' losses side by side."""

    def one_more(total, part):
        (value, (losses, terms)), gradient = gradient_of_part(part)
        return jax.tree.map(jnp.add, total, (value, terms, gradient)), losses

    first = jax.tree.map(lambda array: array[0], parts)
    (value, (_, terms)), gradient = jax.eval_shape(gradient_of_part, first)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (value, terms, gradient))
    (value, terms, gradient), losses = jax.lax.scan(one_more, nothing, parts)
    return (value, (losses, terms)), gradient


def _move(state: TrainState, gradient: PyTree, knobs: Knobs, recipe: Recipe) -> TrainState:
    optimizer = make_optimizer(recipe.train, state.params)
    direction, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
    params = descend(state.params, direction, knobs.learning_rate)
    return TrainState(params, update_average(state.average, params, knobs.average_decay), optimizer_state)


def make_validation_step(model: nn.Module, recipe: Recipe) -> Callable:
    """(params, batch, scale) -> the terms, summed over all devices."""

    def step(params: PyTree, graph: GraphsTuple, scale: Float[Array, "*h"]) -> dict[str, Sums]:
        return sum_over_devices(totals(_terms(model, recipe, scale, params, graph), _labels(graph, recipe)))

    return parallelise(step)
