"""Energies of a padded batch, with forces and stress from a single backward pass.

With v_e = x_j + S L - x_i the vector of edge e from center i to neighbor j, and g_e = dE/dv_e:
F_i = sum_(e with center i) g_e - sum_(e with neighbor i) g_e,  stress = sum_e v_e (x) g_e / V.

A displacement t of the atoms changes v_e by t_j - t_i. One `jvp` of the gradient gives the change of g_e, from which
the Hessian times t follows as the (negative) forces follow from g_e.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
from flax import linen as nn
from jaxtyping import Array, Float

from mlip.graph.ends import graph_of_node
from mlip.models import build_model
from mlip.models.edge_vectors import edge_vectors
from mlip.models.ensemble import Ensemble
from mlip.programs import Jitted
from mlip.runtime import ProductPrecision, products_in
from mlip.units import VOIGT

_TOGETHER = 2_000
"""Largest number of edges for which a CPU evaluates all members of an ensemble together."""


class Evaluation(NamedTuple):
    """Output of a potential for a batch, without the reference energies. Those are added on the host in float64,
    because they are two orders of magnitude larger than the differences that float32 must resolve."""

    node_energies: Float[Array, " n"]
    """Energy of each node, eV; zero for padding."""
    energy: Float[Array, " g"]
    """Energy of each graph, eV."""
    forces: Float[Array, "n 3"]
    """Force on each node, eV/A."""
    stress: Float[Array, "g 6"]
    """Stress of each graph, eV/A^3, in ASE's Voigt order and sign; zero if the cell has no volume."""
    spread: "Spread | None" = None
    """Uncertainty data of a network that predicts them; None for other networks."""
    curvature: Float[Array, "n 3"] | None = None
    """Hessian times the requested directions, eV/A^2 times the unit of the directions."""


class Spread(NamedTuple):
    """Uncertainty data of a network for a batch, before calibration."""

    energy: Float[Array, " g"] | None = None
    """Standard deviation of an ensemble's energies, reference energies included, eV."""
    forces: Float[Array, "n 3"] | None = None
    """Standard deviation of an ensemble's forces, by component, eV/A."""
    stress: Float[Array, "g 6"] | None = None
    """Standard deviation of an ensemble's stress, eV/A^3; zero if the cell has no volume."""
    features: Float[Array, "g d"] | None = None
    """Mean of the last layer's features over the atoms, eV/atom (`mlip.models.last_layer`)."""


def energies_forces_stress(
    model: nn.Module,
    params: Any,
    graph: jraph.GraphsTuple,
    scale: float | Float[Array, " n"],
    shift: float,
    products: ProductPrecision = "highest",
    directions: Float[Array, "n 3"] | None = None,
) -> Evaluation:
    """Evaluate a padded batch; pure, and differentiable with respect to `params`.

    Args:
        graph: as `mlip.graph.batching.pad_batch` makes it.
        scale, shift: the energy of a node is scale * model + shift, eV; a scale per node allows for different heads.
        products: precision of the network's matrix products; only training should use less than the highest.
        directions: displacements of the atoms by which the Hessian is multiplied.
    """

    if isinstance(model, Ensemble):
        return jax.tree.map(lambda members: jnp.mean(members, axis=0), of_members(model, params, graph, scale, shift))

    def outputs(graph: jraph.GraphsTuple) -> tuple[Float[Array, " n"], None]:
        return model.apply({"params": params}, graph), None

    return differentiated(outputs, model.config.inputs.cutoff, graph, scale, shift, products, directions)[0]


def of_members(
    model: Ensemble, params: Any, graph: jraph.GraphsTuple, scale: float | Float[Array, ""], shift: float
) -> Evaluation:
    """Evaluation of every member of an ensemble, stacked along a leading axis.

    Each member has its own backward pass. Small batches go through all members together; on a CPU large batches go
    through one member after another, whose arrays then fit into the caches. That took M3GNet a third less time.
    """
    network = build_model(model.config.network)

    def evaluate(member: tuple[Any, Float[Array, ""]]) -> Evaluation:
        parameters, own_scale = member
        return energies_forces_stress(network, parameters, graph, scale * own_scale, 0.0)

    one_by_one = jax.default_backend() == "cpu" and len(graph.senders) > _TOGETHER
    every = partial(jax.lax.map, evaluate) if one_by_one else jax.vmap(evaluate)
    found = every((params["members"], params["scales"]))
    offsets = scale * params["offsets"][:, graph.nodes["species"]] + shift
    node_energies = found.node_energies + jnp.where(graph.nodes["species"] > 0, offsets, 0.0)
    energies = jax.vmap(lambda nodes: sums_over_nodes(nodes, graph))(node_energies)
    return found._replace(node_energies=node_energies, energy=energies)


def sums_over_nodes(nodes: Float[Array, "n ..."], graph: jraph.GraphsTuple) -> Float[Array, "g ..."]:
    """Sums over each structure's nodes."""
    return jax.ops.segment_sum(nodes, graph_of_node(graph), len(graph.n_node), indices_are_sorted=True)


def differentiated(
    outputs: Callable[[jraph.GraphsTuple], tuple[Float[Array, " n"], Any]],
    cutoff: float,
    graph: jraph.GraphsTuple,
    scale: float | Float[Array, ""],
    shift: float | Float[Array, ""],
    products: ProductPrecision = "highest",
    directions: Float[Array, "n 3"] | None = None,
) -> tuple[Evaluation, Any]:
    """Evaluation of a network, and its auxiliary output.

    Args:
        outputs: the network as a function of a graph whose edges have vectors; returns the output of each node and an
            auxiliary output.
        cutoff: cutoff radius, A; padding edges get twice this length.
    """
    is_atom = graph.nodes["species"] > 0
    with products_in(products):

        def total_energy(vectors):
            energies, told = outputs(graph._replace(edges={"vectors": vectors}))
            energies = jnp.where(is_atom, scale * energies + shift, 0.0)
            return jnp.sum(energies), (energies, told)

        vectors = edge_vectors(graph, padding_length=2 * cutoff)
        gradient_of, curvature = jax.grad(total_energy, has_aux=True), None
        if directions is None:
            gradient, (node_energies, told) = gradient_of(vectors)
        else:
            change = directions[graph.senders] - directions[graph.receivers]
            change = jnp.where(is_atom[graph.receivers][:, None], change, 0.0)
            gradient, changed, (node_energies, told) = jax.jvp(gradient_of, (vectors,), (change,), has_aux=True)
            curvature = -forces_of_edges(changed, graph, len(is_atom))

    n_nodes = len(is_atom)
    forces = forces_of_edges(gradient, graph, n_nodes)
    virial_of_edge = jnp.stack(
        [0.5 * (vectors[:, i] * gradient[:, j] + vectors[:, j] * gradient[:, i]) for i, j in VOIGT], axis=-1
    )
    virial_of_node = jax.ops.segment_sum(virial_of_edge, graph.receivers, n_nodes, indices_are_sorted=True)
    virial = sums_over_nodes(virial_of_node, graph)
    volume = jnp.abs(jnp.linalg.det(graph.globals["cell"].astype(vectors.dtype)))[:, None]
    stress = jnp.where(volume > 0, virial / jnp.where(volume > 0, volume, 1.0), 0.0)
    energies = sums_over_nodes(node_energies, graph)
    return Evaluation(node_energies, energies, forces, stress, curvature=curvature), told


def forces_of_edges(gradient: Float[Array, "e 3"], graph: jraph.GraphsTuple, n_nodes: int) -> Float[Array, "n 3"]:
    """Forces on the atoms from the energy gradient with respect to the edge vectors."""
    at_receivers = jax.ops.segment_sum(gradient, graph.receivers, n_nodes, indices_are_sorted=True)
    return at_receivers - jax.ops.segment_sum(gradient, graph.senders, n_nodes)


evaluate_batch = Jitted(energies_forces_stress)
"""`energies_forces_stress`, compiled once per model and shape for the whole process; the least recently used
programs are released."""
