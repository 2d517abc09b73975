"""Edges arranged in blocks of equal size, each with edges of a single center.

The sum over the edges of each atom becomes a dense sum over the edges of a block and a sum over few blocks. Messages
need neither be stored nor scattered edge by edge.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float, Int

from mlip.graph.ends import WaveEnds, ascending_rows


class EdgeBlocks(NamedTuple):
    """s = b * size slots, block by block. Slots without an edge have a vector longer than the cutoff."""

    size: int
    vectors: Float[Array, "s 3"]
    senders: Int[Array, " s"] | WaveEnds
    receivers: Int[Array, " b"]
    """Receiver of all edges of each block, ascending."""

    @property
    def slot_receivers(self) -> Int[Array, " s"]:
        return jnp.repeat(self.receivers, self.size)

    def sum_blocks(self, values: Float[Array, "b ..."], n_nodes: int) -> Float[Array, "n ..."]:
        return jax.ops.segment_sum(values, self.receivers, n_nodes, indices_are_sorted=True)


def edge_blocks(graph: jraph.GraphsTuple, n_nodes: int, size: int, padding_length: float) -> EdgeBlocks:
    """Arrange the edges of a graph in blocks.

    Args:
        graph: padded graph with ascending receivers and edges["vectors"], A.
        n_nodes: number of nodes, padding included.
        size: edges per block.
        padding_length: length of the vector in empty slots, A; beyond the cutoff.
    """
    receivers, n_edges = graph.receivers, len(graph.receivers)
    counts = jax.ops.segment_sum(jnp.ones_like(receivers), receivers, n_nodes, indices_are_sorted=True)
    blocks = (counts + size - 1) // size
    first_slot = (jnp.cumsum(blocks) - blocks) * size
    first_edge = jnp.cumsum(counts) - counts
    slots = jnp.arange(n_edges, dtype=receivers.dtype) + ascending_rows(first_slot - first_edge, receivers)
    n_blocks = n_edges // size + n_nodes  # the sum of ceil(count / size) never exceeds this
    vectors = graph.edges["vectors"]
    padding = jnp.zeros((n_blocks * size, 3), vectors.dtype).at[:, 0].set(padding_length)

    def in_slots(of_edges, elsewhere):
        return elsewhere.at[slots].set(of_edges, indices_are_sorted=True, unique_indices=True)

    return EdgeBlocks(
        size,
        in_slots(vectors, padding),
        jax.tree.map(
            lambda ends: in_slots(ends, jnp.zeros((len(padding), *ends.shape[1:]), ends.dtype)), graph.senders
        ),
        jnp.full(n_blocks, n_nodes - 1, receivers.dtype).at[slots // size].set(receivers, indices_are_sorted=True),
    )
