"""Gathers rows of nodes at the ends of edges, and tells the compiler what is known about the indices.

All indices are in bounds, so nothing is clipped or filled. Receivers and the graph of each node ascend: their rows are
read in order, and the gradient, a sum over equal indices, needs no atomic additions on a GPU.
"""

import jax.numpy as jnp
import jraph
from jaxtyping import Array, Int, Shaped

_WITHIN = "promise_in_bounds"


def ascending_rows(rows: Shaped[Array, "n ..."], indices: Int[Array, " e"]) -> Shaped[Array, "e ..."]:
    """rows[indices] for ascending indices, such as receivers or the graph of each node."""
    return jnp.asarray(rows).at[indices].get(indices_are_sorted=True, mode=_WITHIN)


def any_rows(rows: Shaped[Array, "n ..."], indices: Int[Array, "..."]) -> Shaped[Array, "..."]:
    """rows[indices] for indices in any order, such as senders."""
    return jnp.asarray(rows).at[indices].get(mode=_WITHIN)


def graph_of_node(graph: jraph.GraphsTuple) -> Int[Array, " n"]:
    """Index of the graph to which each node belongs, ascending."""
    n_nodes = graph.nodes["species"].shape[0]
    return jnp.repeat(jnp.arange(graph.n_node.shape[0]), graph.n_node, total_repeat_length=n_nodes)
