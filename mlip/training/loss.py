"""Penalties on energy per atom, force components and stress components.

Every term comes as (sum, count), never as a mean: sums and counts are what adds up over devices and batches,
so that a mean over N devices, or over a padded batch, is the mean over the labels. A missing label is NaN
and contributes exactly nothing to sum, count and gradient.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from jraph import GraphsTuple

from mlip.graph.batching import graph_mask
from mlip.training.recipe import LossRecipe
from mlip.units import EV_PER_A3_IN_GPA


class Sums(NamedTuple):
    """Of one term: scalars that add up over graphs, batches and devices."""

    penalty: Float[Array, ""]
    """Sum of the penalties, in the unit of the loss."""
    absolute_error: Float[Array, ""]
    """Sum of |prediction - label|: eV/atom, eV/A or GPa."""
    count: Float[Array, ""]
    """Labels that are known. A float, as it is only ever divided by."""


class Terms(NamedTuple):
    energy: Sums
    forces: Sums
    stress: Sums


def penalty_function(kind: str, delta: float) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
    """residual -> penalty: MSE r^2, MAE |r|, or Huber's r^2 / 2 up to |r| = delta and then the tangent."""
    if kind == "mse":
        return jnp.square
    if kind == "mae":
        return jnp.abs

    def huber(residual):
        size = jnp.abs(residual)
        quadratic = jnp.minimum(size, delta)
        return quadratic * (size - 0.5 * quadratic)

    return huber


def graph_of_node(graph: GraphsTuple) -> Int[Array, " n"]:
    """The index of the graph that each node belongs to."""
    n_nodes = graph.nodes["species"].shape[0]
    return jnp.repeat(jnp.arange(graph.n_node.shape[0]), graph.n_node, total_repeat_length=n_nodes)


def _residuals(prediction: Array, label: Array, real: Array) -> tuple[Array, Array]:
    """(residual, which labels are known). Only NaN means missing: an infinite label must be seen to fail."""
    known = real & ~jnp.isnan(label)
    return jnp.where(known, prediction - jnp.where(known, label, 0.0), 0.0), known


def loss_terms(prediction, graph: GraphsTuple, recipe: LossRecipe) -> tuple[Terms, Bool[Array, " g"]]:
    """The three terms of a batch, and which of its structures have a residual that is not finite.

    Args:
        prediction: has energy (g,) eV, forces (n, 3) eV/A and stress (g, 6) eV/A^3.
        graph: with the labels `globals["energy"]`, `nodes["forces"]`, `globals["stress"]`.
    """
    penalty = penalty_function(recipe.kind, recipe.huber_delta)
    stress_scale = EV_PER_A3_IN_GPA if recipe.stress_unit == "GPa" else 1.0
    real = graph_mask(graph)
    atoms = jnp.maximum(graph.n_node, 1)
    energy, energy_known = _residuals(prediction.energy / atoms, graph.globals["energy"] / atoms, real)
    is_atom = graph.nodes["species"] > 0
    forces, forces_known = _residuals(prediction.forces, graph.nodes["forces"], is_atom[:, None])
    stress, stress_known = _residuals(prediction.stress, graph.globals["stress"], real[:, None])

    def sums(residual, known, *, scale=1.0, unit=1.0):
        return Sums(
            jnp.where(known, penalty(residual * scale), 0.0).sum(),
            jnp.abs(residual).sum() * unit,
            known.sum().astype(residual.dtype),
        )

    terms = Terms(
        sums(energy, energy_known),
        sums(forces, forces_known),
        sums(stress, stress_known, scale=stress_scale, unit=EV_PER_A3_IN_GPA),
    )
    bad_forces = jax.ops.segment_max(
        (~jnp.isfinite(forces)).any(axis=1).astype(jnp.int32),
        graph_of_node(graph),
        graph.n_node.shape[0],
        indices_are_sorted=True,
    )
    bad = ~jnp.isfinite(energy) | (bad_forces > 0) | (~jnp.isfinite(stress)).any(axis=1)
    return terms, bad & real


def weighted_mean(terms: Terms, counts: Terms, recipe: LossRecipe) -> Float[Array, ""]:
    """sum over E, F, S of weight * penalty / count, with the counts of `counts` (those of all devices)."""
    weights = (recipe.energy, recipe.forces, recipe.stress)
    return sum(
        weight * term.penalty / (of_all.count + (of_all.count == 0))
        for weight, term, of_all in zip(weights, terms, counts, strict=True)
        if weight > 0
    )
