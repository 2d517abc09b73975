"""Places of nodes in the tables of a network that knows certain elements and heads."""

from collections.abc import Sequence

import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Int


def element_indices(elements: Sequence[int], species: Int[Array, " n"]) -> Int[Array, " n"]:
    """Places in `elements`; padding, and elements that the potential would refuse, get the first."""
    table = np.zeros(119, np.int32)
    table[list(elements)] = np.arange(len(elements))
    return jnp.asarray(table)[species]


def heads_of_nodes(graph: jraph.GraphsTuple) -> Int[Array, " n"]:
    """The head of each node's graph, by its place in the config's `heads`."""
    return jnp.repeat(graph.globals["head"], graph.n_node, total_repeat_length=len(graph.nodes["species"]))
