"""Programs that evaluate a batch with its uncertainty data, for an ensemble or from a network's last-layer features."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
from flax import linen as nn
from jaxtyping import Array, Float

from mlip.energy_gradient import Evaluation, Spread, differentiated, of_members, sums_over_nodes
from mlip.graph.ends import ascending_rows, graph_of_node
from mlip.models.edge_vectors import edge_vectors
from mlip.models.ensemble import Ensemble
from mlip.models.last_layer import outputs_and_features
from mlip.programs import Jitted
from mlip.runtime import products_in


def ensemble_evaluation(
    model: Ensemble, params: Any, graph: jraph.GraphsTuple, scale: float, shift: float
) -> Evaluation:
    """Mean of the members' energies, forces and stresses, and their standard deviations with n - 1 in the denominator.

    Args:
        params: parameters of an ensemble.
    """
    found = of_members(model, params, graph, scale, shift)
    spread = Spread(energy=_std(found.energy), forces=_std(found.forces), stress=_std(found.stress))
    return jax.tree.map(lambda members: jnp.mean(members, axis=0), found)._replace(spread=spread)


def last_layer_evaluation(
    model: nn.Module, params: Any, graph: jraph.GraphsTuple, scale: float, shift: float
) -> Evaluation:
    """Evaluation like `energies_forces_stress`, with the mean of the last layer's features over each structure's atoms.

    Raises:
        MlipError: the network does not report features.
    """

    def outputs(graph: jraph.GraphsTuple) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        return outputs_and_features(model, params, graph)

    evaluation, features = differentiated(outputs, model.config.inputs.cutoff, graph, scale, shift)
    is_atom = graph.nodes["species"] > 0
    sums = sums_over_nodes(jnp.where(is_atom[:, None], scale * features, 0.0), graph)
    return evaluation._replace(spread=Spread(features=sums / jnp.maximum(graph.n_node, 1)[:, None]))


class Response(NamedTuple):
    """Energies of a batch and their derivatives with respect to a strain t D of each structure; D is
    `globals["strain"]`."""

    spread: Spread
    """Spread of energies; without forces and stress."""
    slope_std: Float[Array, " g"] | None
    """Standard deviation of dE/dt over an ensemble, eV."""
    feature_slopes: Float[Array, "g d"] | None
    """Derivatives with respect to t of the last layer's features, summed over the atoms, eV."""
    curvature: Float[Array, " g"]
    """Second derivative d2E/dt2, eV; the atoms follow the cell."""


def strain_response(model: nn.Module, params: Any, graph: jraph.GraphsTuple, scale: float, shift: float) -> Response:
    """Evaluate a batch and its derivatives with respect to strain, by forward-mode differentiation of all structures at
    once.

    Args:
        model: an ensemble, or a network that reports last-layer features.
        graph: has globals["strain"] (g, 3, 3), symmetric.
    """
    is_atom = graph.nodes["species"] > 0
    with products_in("highest"):
        unstrained = edge_vectors(graph, padding_length=2 * model.config.inputs.cutoff)
        strains = graph.globals["strain"].astype(unstrained.dtype)
        of_edge = ascending_rows(graph_of_node(graph), graph.receivers)
        changes = jnp.einsum("ei,eij->ej", unstrained, ascending_rows(strains, of_edge))
        changes = jnp.where(is_atom[graph.receivers][:, None], changes, 0.0)

        def energies_and_features(t: Float[Array, " g"]) -> tuple[Float[Array, "k g"], Any]:
            strained = graph._replace(edges={"vectors": unstrained + ascending_rows(t, of_edge)[:, None] * changes})
            if isinstance(model, Ensemble):
                outputs, features = model.apply({"params": params}, strained, method=model.energies), None
            else:
                output, features = outputs_and_features(model, params, strained)
                outputs = output[None]
                features = sums_over_nodes(jnp.where(is_atom[:, None], scale * features, 0.0), graph)
            energies = jnp.where(is_atom, scale * outputs + shift, 0.0)
            return jax.vmap(lambda nodes: sums_over_nodes(nodes, graph))(energies), features

        def with_slopes(t: Float[Array, " g"]) -> tuple[Any, Any]:
            return jax.jvp(energies_and_features, (t,), (jnp.ones_like(t),))

        at_rest = jnp.zeros(len(graph.n_node), unstrained.dtype)
        (values, slopes), (_, (curvatures, _)) = jax.jvp(with_slopes, (at_rest,), (jnp.ones_like(at_rest),))
    (energies, features), (energy_slopes, feature_slopes) = values, slopes
    curvature = jnp.mean(curvatures, axis=0)
    if features is None:
        return Response(Spread(energy=_std(energies)), _std(energy_slopes), None, curvature)
    means = features / jnp.maximum(graph.n_node, 1)[:, None]
    return Response(Spread(features=means), None, feature_slopes, curvature)


evaluate_ensemble = Jitted(ensemble_evaluation)
evaluate_last_layer = Jitted(last_layer_evaluation)
evaluate_response = Jitted(strain_response)


def _std(values: Float[Array, "k ..."]) -> Float[Array, "..."]:
    return jnp.std(values, axis=0, ddof=1)
