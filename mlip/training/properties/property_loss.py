"""Losses of a property, as functions of a network's two outputs and the normalized target.

The robust losses let the network state its uncertainty: sigma = exp(second output) divides the error and is itself
penalized, as for the scale of a Laplace ("mae") or normal ("mse") distribution (A. Kendall and Y. Gal, NeurIPS 2017).
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from jraph import GraphsTuple

from mlip.graph.batching import graph_mask
from mlip.training.recipe import PropertyLoss
from mlip.training.terms import Counts, Term, Terms

ROBUST: tuple[PropertyLoss, ...] = ("robust_mae", "robust_mse")
"""Losses that train the second output."""


def property_penalty(
    outputs: Float[Array, "c 2"], targets: Float[Array, " c"], kind: PropertyLoss
) -> Float[Array, " c"]:
    """Contribution of each crystal to the loss, which is the mean over crystals."""
    error, log_sigma = outputs[:, 0] - targets, outputs[:, 1]
    match kind:
        case "mae":
            return jnp.abs(error)
        case "mse":
            return error**2
        case "robust_mae":
            return 2**0.5 * jnp.abs(error) * jnp.exp(-log_sigma) + log_sigma
        case "robust_mse":
            return 0.5 * error**2 * jnp.exp(-2 * log_sigma) + log_sigma


def property_terms(
    outputs: Float[Array, "c 2"], graph: GraphsTuple, kind: PropertyLoss, scale: Float[Array, ""]
) -> Terms:
    """The only term of a batch; its absolute error is in the property's unit.

    Args:
        graph: has the normalized labels `globals["property"]`.
        scale: change of the property per unit of the network's output.
    """
    known = _is_known(graph)
    # Missing labels are masked before the penalty, because NaN times zero would make the gradient NaN.
    outputs = jnp.where(known[:, None], outputs, 0.0)
    targets = jnp.where(known, graph.globals["property"], 0.0)
    penalty = jnp.where(known, property_penalty(outputs, targets, kind), 0.0)
    return {"property": Term(penalty, scale * jnp.abs(outputs[:, 0] - targets).sum())}


def property_counts(graph: GraphsTuple) -> Counts:
    """Number of known labels in a batch."""
    return {"property": _is_known(graph).sum().astype(graph.globals["property"].dtype)}


def _is_known(graph: GraphsTuple) -> Bool[Array, " c"]:
    return graph_mask(graph) & ~jnp.isnan(graph.globals["property"])
