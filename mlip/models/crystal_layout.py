"""Arrangement of the nodes and edges of many crystals in arrays, and attention over them.

`PackedCrystals` holds any crystals one after another; edges are summed at their nodes by segment. `AlikeCrystals` holds
one prototype with many assignments of elements. These share the edges, each of which has a slot at its receiving node,
so that sums run over an axis and need no scatter. Both have the same methods for networks.

Arrays have the shape (n, ..., f) for nodes, (e, ..., f) or (n, slots, ..., f) for edges, and (c, f) for crystals.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float, Int

from mlip.graph.ends import any_rows, ascending_rows
from mlip.graph.prototype import PrototypeBatch

_TINY = 1e-16
"""Added to the denominator of a softmax, so that the mean is zero where nothing arrives."""


class PackedCrystals(NamedTuple):
    """Layout of a padded batch of `mlip.graph.shells.shell_graph`; rows with multiplicity 0 are padding."""

    senders: Int[Array, " e"]
    receivers: Int[Array, " e"]
    shells: Int[Array, " e"]
    edge_multiplicity: Float[Array, " e"]
    node_multiplicity: Float[Array, " n"]
    crystal_of_node: Int[Array, " n"]
    n_node: Int[Array, " c"]

    @classmethod
    def of(cls, graph: jraph.GraphsTuple, dtype) -> "PackedCrystals":
        n_nodes = len(graph.nodes["species"])
        return cls(
            graph.senders,
            graph.receivers,
            graph.edges["shell"],
            graph.edges["multiplicity"].astype(dtype),
            graph.nodes["multiplicity"].astype(dtype),
            jnp.repeat(jnp.arange(len(graph.n_node)), graph.n_node, total_repeat_length=n_nodes),
            graph.n_node,
        )

    def at_senders(self, rows: Float[Array, "n f"]) -> Float[Array, "e f"]:
        return any_rows(rows, self.senders)

    def at_receivers(self, rows: Float[Array, "n f"]) -> Float[Array, "e f"]:
        return ascending_rows(rows, self.receivers)

    def of_shells(self, table: Float[Array, "k f"]) -> Float[Array, "e f"]:
        return any_rows(table, self.shells)

    def of_crystals(self, rows: Float[Array, "c f"]) -> Float[Array, "n f"]:
        return ascending_rows(rows, self.crystal_of_node)

    def attend_to_edges(self, scores: Float[Array, "e s"], values: Float[Array, "e f"]) -> Float[Array, "n f"]:
        """Mean of the values that arrive at each node, weighted by the softmax of their scores; s = 1 or f."""
        return _segment_attention(scores, values, self.edge_multiplicity, self.receivers, len(self.node_multiplicity))

    def attend_to_nodes(self, scores: Float[Array, "n s"], values: Float[Array, "n f"]) -> Float[Array, "c f"]:
        """Mean of the values of each crystal's nodes, weighted by the softmax of their scores; s = 1 or f."""
        return _segment_attention(scores, values, self.node_multiplicity, self.crystal_of_node, len(self.n_node))


def _segment_attention(scores, values, multiplicity, segments, n_segments: int) -> Float[Array, "k f"]:
    largest = jax.ops.segment_max(jax.lax.stop_gradient(scores), segments, n_segments, indices_are_sorted=True)
    weights = multiplicity[:, None] * jnp.exp(scores - ascending_rows(largest, segments))
    sum_segments = lambda rows: jax.ops.segment_sum(rows, segments, n_segments, indices_are_sorted=True)  # noqa: E731
    return sum_segments(weights * values) / (sum_segments(weights) + _TINY)


class AlikeCrystals(NamedTuple):
    """Layout of c crystals that share the edges of one prototype, in slots of the receiving nodes. Multiplicity 0 is
    padding."""

    senders: Int[Array, "n slots"]
    shells: Int[Array, "n slots"]
    edge_multiplicity: Float[Array, "n slots"]
    node_multiplicity: Float[Array, " n"]

    @classmethod
    def of(cls, batch: PrototypeBatch, dtype) -> "AlikeCrystals":
        return cls(
            batch.senders, batch.shells, batch.edge_multiplicity.astype(dtype), batch.node_multiplicity.astype(dtype)
        )

    def at_senders(self, rows: Float[Array, "n c f"]) -> Float[Array, "n slots c f"]:
        return any_rows(rows, self.senders)

    def at_receivers(self, rows: Float[Array, "n c f"]) -> Float[Array, "n 1 c f"]:
        return rows[:, None]

    def of_shells(self, table: Float[Array, "k f"]) -> Float[Array, "n slots 1 f"]:
        return table[self.shells][:, :, None]

    def of_crystals(self, rows: Float[Array, "c f"]) -> Float[Array, "1 c f"]:
        return rows[None]

    def attend_to_edges(
        self, scores: Float[Array, "n slots c s"], values: Float[Array, "n slots c f"]
    ) -> Float[Array, "n c f"]:
        return _axis_attention(scores, values, self.edge_multiplicity, axis=1)

    def attend_to_nodes(self, scores: Float[Array, "n c s"], values: Float[Array, "n c f"]) -> Float[Array, "c f"]:
        return _axis_attention(scores, values, self.node_multiplicity, axis=0)


def _axis_attention(scores, values, multiplicity, axis: int) -> Float[Array, "..."]:
    largest = jax.lax.stop_gradient(scores).max(axis, keepdims=True)
    weights = multiplicity[..., None, None] * jnp.exp(scores - largest)
    return (weights * values).sum(axis) / (weights.sum(axis) + _TINY)


Layout = PackedCrystals | AlikeCrystals
