"""Indices of nodes in the tables of a network with a list of elements and heads."""

from collections.abc import Sequence

import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Int


def element_indices(elements: Sequence[int], species: Int[Array, " n"]) -> Int[Array, " n"]:
    """Index of each node's element in `elements`; 0 for padding and for elements that the potential rejects."""
    table = np.zeros(119, np.int32)
    table[list(elements)] = np.arange(len(elements))
    return jnp.asarray(table)[species]


def heads_of_nodes(graph: jraph.GraphsTuple) -> Int[Array, " n"]:
    """Index of the head of each node's graph in the config's `heads`."""
    return jnp.repeat(graph.globals["head"], graph.n_node, total_repeat_length=len(graph.nodes["species"]))
