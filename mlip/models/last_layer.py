"""Features of a network's last layer, from which its uncertainty is estimated (`mlip.uncertainty`).

A network whose output E_i = w . phi_i is linear in the parameters w of its last layer reports the features phi_i of
each node, in the units of its output, by one line at its readout:

    tell_features(self, lambda: phi)

The features are computed only if `outputs_and_features` requests them; other programs contain no trace of them. A
network whose output is the sum of several readouts reports the features of each.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jraph
from flax import linen as nn
from jaxtyping import Array, Float

from mlip.errors import MlipError

_COLLECTION = "last_layer"


def tell_features(module: nn.Module, features: Callable[[], Float[Array, "n d"]]) -> None:
    """Record the features if this evaluation requests them."""
    if module.is_mutable_collection(_COLLECTION) and not module.is_initializing():
        module.sow(_COLLECTION, "features", features())


def outputs_and_features(
    model: nn.Module, params: Any, graph: jraph.GraphsTuple
) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
    """Output of the network for each node, and the last-layer features in which it is linear.

    Raises:
        MlipError: the network does not report features.
    """
    outputs, told = model.apply({"params": params}, graph, mutable=[_COLLECTION])
    features = jax.tree.leaves(told)
    if not features:
        raise MlipError(
            f"the network {model.config.model} does not tell the features of its last layer",
            fix="an ensemble of several such potentials: mlip ensemble",
        )
    return outputs, jnp.concatenate(features, axis=1)
