"""Features of a network's last layer, for the uncertainty that follows from them (`mlip.uncertainty`).

A network whose output is linear in the parameters w of its last layer, E_i = w . phi_i, tells the features phi_i of
each node, in the units of its output, by one line where it reads them out:

    tell_features(self, lambda: phi)

Nothing is computed for it unless someone asks by `outputs_and_features`: programs that evaluate a network alone have no
trace of it. A network with several readouts whose sum is its output tells the features of each.
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
    """Keep the features for whoever asks for them in this evaluation; mostly nobody does."""
    if module.is_mutable_collection(_COLLECTION) and not module.is_initializing():
        module.sow(_COLLECTION, "features", features())


def outputs_and_features(
    model: nn.Module, params: Any, graph: jraph.GraphsTuple
) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
    """Output of the network for each node, and the features that it is linear in.

    Raises:
        MlipError: the network tells none.
    """
    outputs, told = model.apply({"params": params}, graph, mutable=[_COLLECTION])
    features = jax.tree.leaves(told)
    if not features:
        raise MlipError(
            f"the network {model.config.model} does not tell the features of its last layer",
            fix="an ensemble of several such potentials: mlip ensemble",
        )
    return outputs, jnp.concatenate(features, axis=1)
