"""Bond vectors of a padded batch, from positions, lattice shifts and cells."""

import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float

from mlip.graph.ends import any_rows, ascending_rows


def edge_vectors(graph: jraph.GraphsTuple, padding_length: float) -> Float[Array, "e 3"]:
    """Vectors from center (receiver) to neighbor (sender), A; padding edges get `padding_length` along x."""
    positions = graph.nodes["positions"]
    graph_of_node = jnp.repeat(jnp.arange(len(graph.n_node)), graph.n_node, total_repeat_length=len(positions))
    cells = ascending_rows(
        graph.globals["cell"].astype(positions.dtype), ascending_rows(graph_of_node, graph.receivers)
    )
    shifts = jnp.einsum("ei,eij->ej", graph.edges["shifts"].astype(positions.dtype), cells, precision="highest")
    vectors = any_rows(positions, graph.senders) + shifts - ascending_rows(positions, graph.receivers)
    is_real = ascending_rows(graph.nodes["species"], graph.receivers) > 0
    return jnp.where(is_real[:, None], vectors, jnp.array([padding_length, 0.0, 0.0], positions.dtype))
