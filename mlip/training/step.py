"""One training step and one validation step, as they run on every device.

A step whose loss or gradient is not finite leaves the state as it was: that is decided on the device, by all
devices alike, so that the host need not wait for the answer before it sends the next batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, PyTree
from jraph import GraphsTuple

from mlip.potential import energies_forces_stress
from mlip.training.loss import Terms, graph_of_node, loss_terms, weighted_mean
from mlip.training.optimizer import make_optimizer, update_average
from mlip.training.parallel import parallelise, sum_over_devices
from mlip.training.recipe import Recipe


class TrainState(NamedTuple):
    """All that a step changes; each leaf has a leading axis of devices while training."""

    params: PyTree
    average: PyTree
    """Moving average of `params` (without an EMA: `params` themselves): what is validated and exported."""
    optimizer: PyTree
    n_updates: Int[Array, ""]
    """Steps that moved the parameters, i.e. without the skipped ones."""


class StepReport(NamedTuple):
    """What a step says; equal on all devices but for `bad`."""

    loss: Float[Array, ""]
    terms: Terms
    gradient_norm: Float[Array, ""]
    """Before clipping."""
    finite: Bool[Array, ""]
    """False: the step was skipped."""
    bad: Bool[Array, " g"]
    """This device's structures whose residuals are not finite."""


def initial_state(params: PyTree, recipe: Recipe, n_steps: int) -> TrainState:
    """State of one device before the first step."""
    optimizer = make_optimizer(recipe.train, n_steps).init(params)
    return TrainState(params, params, optimizer, jnp.zeros((), jnp.int32))


def scale_of_nodes(scale: Float[Array, "*h"], graph: GraphsTuple) -> Float[Array, "*n"]:
    """One for all, or that of the head of each node's graph."""
    return scale if scale.ndim == 0 else scale[graph.globals["head"]][graph_of_node(graph)]


def make_train_step(model: nn.Module, recipe: Recipe, n_steps: int) -> Callable:
    """(state, batch, scale) -> (state, StepReport) on all devices; the given state's buffers are reused.

    `scale`, eV a unit of the model's output, for several heads one for each, is an argument so that another data set
    needs no other program.
    """
    optimizer = make_optimizer(recipe.train, n_steps)

    def loss(params: PyTree, graph: GraphsTuple, scale: Float[Array, "*h"]):
        prediction = energies_forces_stress(model, params, graph, scale_of_nodes(scale, graph), shift=0.0)
        terms, bad = loss_terms(prediction, graph, recipe.loss)
        # Divided by the count of all devices: the sum of the devices' gradients is then the batch's gradient.
        return weighted_mean(terms, sum_over_devices(terms), recipe.loss), (terms, bad)

    def step(state: TrainState, graph: GraphsTuple, scale: Float[Array, "*h"]) -> tuple[TrainState, StepReport]:
        (value, (terms, bad)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, graph, scale)
        value, terms, gradient = sum_over_devices((value, terms, gradient))
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)
        moved = move(state, gradient)
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        return state, StepReport(value, terms, norm, finite, bad)

    def move(state: TrainState, gradient: PyTree) -> TrainState:
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = params
        if recipe.train.ema_decay is not None:
            average = update_average(state.average, params, recipe.train.ema_decay, state.n_updates)
        return TrainState(params, average, optimizer_state, state.n_updates + 1)

    return parallelise(step, donate=(0,))


def make_validation_step(model: nn.Module, recipe: Recipe) -> Callable:
    """(params, batch, scale) -> Terms summed over all devices."""

    def step(params: PyTree, graph: GraphsTuple, scale: Float[Array, "*h"]) -> Terms:
        prediction = energies_forces_stress(model, params, graph, scale_of_nodes(scale, graph), shift=0.0)
        terms, _ = loss_terms(prediction, graph, recipe.loss)
        return sum_over_devices(terms)

    return parallelise(step)
