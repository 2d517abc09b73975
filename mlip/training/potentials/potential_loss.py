"""Penalties on energy per atom, force components, stress components, and products of the Hessian with directions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from jraph import GraphsTuple

from mlip.graph.batching import graph_mask
from mlip.graph.ends import graph_of_node
from mlip.training.quantity import Quantity
from mlip.training.recipe import LossRecipe
from mlip.training.terms import Counts, Term, Terms
from mlip.units import EV_PER_A3_IN_GPA

QUANTITIES = (
    Quantity("energy", "energy", "E", "meV/atom", ".1f", recorded=1000.0),
    Quantity("forces", "force", "F", "eV/Å", ".3f"),
    Quantity("stress", "stress", "S", "GPa", ".2f"),
)
"""Terms of the loss; their units are eV/atom, eV/A and GPa, those of records, tables and reports meV/atom, eV/A and
GPa."""

CURVATURE = Quantity("curvature", "curvature", "H", "eV/Å²", ".3f")
"""Additional term for losses that fit the curvature: components of the Hessian's products with unit directions."""

_OF_NINE = (2 / 3, 2 / 3, 2 / 3, 4 / 3, 4 / 3, 4 / 3)
"""Factors of the components xx yy zz yz xz xy with which the mean over six equals the mean over the tensor's nine, as
in the losses of M3GNet, matgl and MACE. Squared errors then do not depend on the axes."""


def penalty_function(kind: str, delta: float) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
    """Penalty as a function of the residual r: MSE r^2, MAE |r|, or Huber: r^2 / 2 up to |r| = delta, then the
    tangent."""
    if kind == "mse":
        return jnp.square
    if kind == "mae":
        return jnp.abs

    def huber(residual):
        size = jnp.abs(residual)
        quadratic = jnp.minimum(size, delta)
        return quadratic * (size - 0.5 * quadratic)

    return huber


def _lengths(vectors: Float[Array, "n 3"]) -> Float[Array, " n"]:
    """Lengths of vectors; the gradient at zero is zero."""
    squared = jnp.sum(vectors * vectors, axis=-1)
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


def _is_known(label: Array, real: Array) -> Bool[Array, "..."]:
    """Mask of the known labels. Only NaN means missing, so that an infinite label causes a visible failure."""
    return real & ~jnp.isnan(label)


def _known_labels(graph: GraphsTuple) -> dict[str, Bool[Array, "..."]]:
    real = graph_mask(graph)
    is_atom = graph.nodes["species"] > 0
    known = {
        "energy": _is_known(graph.globals["energy"], real),
        "forces": _is_known(graph.nodes["forces"], is_atom[:, None]),
        "stress": _is_known(graph.globals["stress"], real[:, None]),
    }
    if "curvature" in graph.nodes:
        known["curvature"] = _is_known(graph.nodes["curvature"], is_atom[:, None])
    return known


def label_counts(graph: GraphsTuple) -> Counts:
    """Number of known labels of each term in a batch."""
    return {name: known.sum().astype(graph.globals["energy"].dtype) for name, known in _known_labels(graph).items()}


def loss_terms(prediction, graph: GraphsTuple, recipe: LossRecipe) -> Terms:
    """Terms of a batch: energy per atom, force components, the nine components of the stress tensor and, if the batch
    has them, components of the Hessian's products with directions.

    Args:
        prediction: has energy (g,) eV, forces (n, 3) eV/A, stress (g, 6) eV/A^3, curvature (n, 3) eV/A^2.
        graph: has the labels `globals["energy"]`, `nodes["forces"]`, `globals["stress"]` and optionally
            `nodes["curvature"]`; optional `globals["factors"]` (g, 3) multiply the penalties of each structure's
            energy, forces (and curvature) and stress.
    """
    penalty = penalty_function(recipe.kind, recipe.huber_delta)
    known = _known_labels(graph)
    atoms = jnp.maximum(graph.n_node, 1)

    def residual(name: str, predicted: Array, label: Array) -> Array:
        return jnp.where(known[name], predicted - jnp.where(known[name], label, 0.0), 0.0)

    energy = residual("energy", prediction.energy / atoms, graph.globals["energy"] / atoms)
    forces = residual("forces", prediction.forces, graph.nodes["forces"])
    stress = residual("stress", prediction.stress, graph.globals["stress"])
    in_stress_unit = EV_PER_A3_IN_GPA if recipe.stress_unit == "GPa" else 1.0
    of_nine = jnp.array(_OF_NINE, stress.dtype)
    if recipe.forces_as == "vectors":  # the count has three labels per atom; the factor gives the mean over atoms
        of_atoms = jnp.where(known["forces"].any(axis=1), 3 * penalty(_lengths(forces)), 0.0)
    else:
        of_atoms = jnp.where(known["forces"], penalty(forces), 0.0).sum(axis=1)
    penalties = {
        "energy": jnp.where(known["energy"], penalty(energy), 0.0),
        "forces": _sum_of_graphs(of_atoms, graph),
        "stress": jnp.where(known["stress"], of_nine * penalty(stress * in_stress_unit), 0.0).sum(axis=1),
    }
    errors = {
        "energy": jnp.abs(energy).sum(),
        "forces": jnp.abs(forces).sum(),
        "stress": jnp.abs(stress).sum() * EV_PER_A3_IN_GPA,
    }
    if "curvature" in known:
        curvature = residual("curvature", prediction.curvature, graph.nodes["curvature"])
        of_atoms = jnp.where(known["curvature"], penalty(curvature), 0.0).sum(axis=1)
        penalties["curvature"] = _sum_of_graphs(of_atoms, graph)
        errors["curvature"] = jnp.abs(curvature).sum()
    if "factors" in graph.globals:
        factors = graph.globals["factors"]
        penalties = {name: factors[:, _FACTOR_OF[name]] * value for name, value in penalties.items()}
    return {name: Term(penalties[name], error) for name, error in errors.items()}


_FACTOR_OF = {"energy": 0, "forces": 1, "stress": 2, "curvature": 1}


def _sum_of_graphs(of_atoms: Float[Array, " n"], graph: GraphsTuple) -> Float[Array, " g"]:
    return jax.ops.segment_sum(of_atoms, graph_of_node(graph), len(graph.n_node), indices_are_sorted=True)
