"""Gathers rows of nodes at the ends of edges, and tells the compiler what is known about the indices.

All indices are in bounds, so nothing is clipped or filled. Receivers and the graph of each node ascend: their rows are
read in order, and the gradient, a sum over equal indices, needs no atomic additions on a GPU.

Senders may be those of a crystal that carries a wave (`WaveEnds`). Networks read and write at senders by `any_rows` and
`sums_at` only, which take the wave into account; used as an index, `WaveEnds` makes JAX raise.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Array, Bool, Float, Int, Shaped

_WITHIN = "promise_in_bounds"

PHASES = (0.0, 2 * np.pi / 3, 4 * np.pi / 3)
"""Phases of the wave in the three copies of the cell, radian."""


@register_dataclass
@dataclass(frozen=True, eq=False)
class WaveEnds:
    """Senders of edges in copies of a crystal's cell; each copy carries the wave with one of the `PHASES`.

    The sender of an edge is ahead of its receiver by the wave's phase along the edge. To first order in the wave, a
    feature is a constant plus a first harmonic of the phase t, which the node's three copies determine at every phase:
    h(t) = sum_k h(t_k) (1 + 2 cos(t - t_k)) / 3.
    """

    nodes: Int[Array, " e"]
    """Index of the sender in the receiver's copy."""
    copies: Int[Array, "e k"]
    """Indices of the sender in all copies."""
    shares: Float[Array, "e k"]
    """Weights of the copies' rows."""

    @classmethod
    def of(
        cls,
        senders: Int[Array, " e"],
        receiver_copies: Int[Array, " e"],
        n_atoms: Int[Array, ""],
        ahead: Float[Array, " e"],
        is_real: Bool[Array, " e"],
    ) -> "WaveEnds":
        """
        Args:
            receiver_copies: the copy that an edge is in; copies of `n_atoms` nodes follow one another, from node 0.
            ahead: phase from the receiver to the sender, radian.
            is_real: whether an edge is not padding.
        """
        steps = jnp.arange(len(PHASES), dtype=senders.dtype) - receiver_copies[:, None]
        copies = senders[:, None] + jnp.where(is_real[:, None], steps * n_atoms, 0)
        behind = steps * (2 * np.pi / len(PHASES))
        return cls(senders, copies, (1 + 2 * jnp.cos(ahead[:, None] - behind)) / len(PHASES))


def ascending_rows(rows: Shaped[Array, "n ..."], indices: Int[Array, " e"]) -> Shaped[Array, "e ..."]:
    """rows[indices] for ascending indices, such as receivers or the graph of each node."""
    return jnp.asarray(rows).at[indices].get(indices_are_sorted=True, mode=_WITHIN)


def any_rows(rows: Shaped[Array, "n ..."], indices: Int[Array, "..."] | WaveEnds) -> Shaped[Array, "..."]:
    """rows[indices] for indices in any order, such as senders."""
    rows = jnp.asarray(rows)
    if not isinstance(indices, WaveEnds):
        return rows.at[indices].get(mode=_WITHIN)
    if not jnp.issubdtype(rows.dtype, jnp.floating):  # elements: the same in all copies
        return rows.at[indices.nodes].get(mode=_WITHIN)
    return jnp.einsum("ek,ek...->e...", indices.shares, rows.at[indices.copies].get(mode=_WITHIN), precision="highest")


def sums_at(values: Float[Array, "e ..."], ends: Int[Array, " e"] | WaveEnds, n_nodes: int) -> Float[Array, "n ..."]:
    """Sums over edges of their values at their ends, in any order; the transpose of `any_rows`."""
    if isinstance(ends, WaveEnds):
        values = jnp.einsum("ek,e...->ek...", ends.shares, values, precision="highest")
        return jax.ops.segment_sum(values.reshape(-1, *values.shape[2:]), ends.copies.ravel(), n_nodes)
    return jax.ops.segment_sum(values, ends, n_nodes)


def graph_of_node(graph: jraph.GraphsTuple) -> Int[Array, " n"]:
    """Index of the graph to which each node belongs, ascending."""
    n_nodes = graph.nodes["species"].shape[0]
    return jnp.repeat(jnp.arange(graph.n_node.shape[0]), graph.n_node, total_repeat_length=n_nodes)
