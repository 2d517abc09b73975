"""Edges dealt into blocks of equal size, each of one center's edges only.

A sum over the edges of each atom becomes a product of small dense matrices in each block, and a sum over few blocks: on
a CPU ten times faster than scattering every edge's message, which also never has to be stored.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float, Int

from mlip.graph.ends import WaveEnds, ascending_rows


class EdgeBlocks(NamedTuple):
    """s = b * size slots, one block after the other. Slots without an edge have a vector of the padding's length."""

    size: int
    vectors: Float[Array, "s 3"]
    senders: Int[Array, " s"] | WaveEnds
    receivers: Int[Array, " b"]
    """Receiver of all edges of a block; ascending."""

    @property
    def slot_receivers(self) -> Int[Array, " s"]:
        return jnp.repeat(self.receivers, self.size)

    def sum_blocks(self, values: Float[Array, "b ..."], n_nodes: int) -> Float[Array, "n ..."]:
        return jax.ops.segment_sum(values, self.receivers, n_nodes, indices_are_sorted=True)


def edge_blocks(graph: jraph.GraphsTuple, n_nodes: int, size: int, padding_length: float) -> EdgeBlocks:
    """
    Args:
        graph: receivers ascend.
        padding_length: A, beyond the cutoff.
    """
    receivers, n_edges = graph.receivers, len(graph.receivers)
    counts = jax.ops.segment_sum(jnp.ones_like(receivers), receivers, n_nodes, indices_are_sorted=True)
    blocks = (counts + size - 1) // size
    first_slot = (jnp.cumsum(blocks) - blocks) * size
    first_edge = jnp.cumsum(counts) - counts
    slots = jnp.arange(n_edges, dtype=receivers.dtype) + ascending_rows(first_slot - first_edge, receivers)
    n_blocks = n_edges // size + n_nodes  # the sum of ceil(count / size) is never larger
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
