"""M3GNet for a property of a whole crystal, as in matgl: M3GNet's blocks, then a Set2Set readout.

Set2Set (Vinyals, Bengio and Kudlur, ICLR 2016) queries the atoms several times: an LSTM makes a query from the answers
so far, and the answer is the mean of the atom features weighted by the softmax of their product with the query.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import jraph
from flax import linen as nn
from jaxtyping import Array, Float, Int
from pydantic import Field

from mlip.graph.ends import ascending_rows
from mlip.models.edge_vectors import edge_vectors
from mlip.models.m3gnet import M3GNet, M3GNetConfig, swish
from mlip.models.torch_linear import linear


class M3GNetPropertyConfig(M3GNetConfig):
    """Architecture of the network; the readout has the defaults of matgl's M3GNet-MP-2018.6.1-Eform."""

    model: Literal["m3gnet-property"] = "m3gnet-property"
    readout_queries: int = Field(3, ge=1, description="number of Set2Set queries to the atoms")
    readout_layers: int = Field(3, ge=1, description="layers of the LSTM that makes the queries")
    zbl: Literal[False] = Field(False, description="only energies have the repulsion of bare nuclei")


class M3GNetProperty(M3GNet):
    """Batch -> (g, 2): a property, standardized by mean and standard deviation, and 0, because no uncertainty is
    predicted.

    Reads nodes["species"] and the bond vectors: edges["vectors"], or positions, shifts and cells.
    """

    config: M3GNetPropertyConfig

    def __call__(self, graph: jraph.GraphsTuple) -> Float[Array, "g 2"]:
        if "vectors" not in graph.edges:
            graph = graph._replace(edges={"vectors": edge_vectors(graph, padding_length=2 * self.config.cutoff)})
        return super().__call__(graph)

    def read_out(self, atoms: Float[Array, "n u"], graph: jraph.GraphsTuple) -> Float[Array, "g 2"]:
        config, n_graphs = self.config, len(graph.n_node)
        graph_of_node = jnp.repeat(jnp.arange(n_graphs), graph.n_node, total_repeat_length=len(atoms))
        x = Set2Set(config, name="set2set")(atoms, graph_of_node, n_graphs)
        for layer in range(2):
            x = swish(linear(config.width, x.shape[1], f"readout_{layer}")(x))
        value = linear(1, x.shape[1], "readout_2")(x)
        return jnp.concatenate([value, jnp.zeros_like(value)], axis=1)


class Set2Set(nn.Module):
    """Atom features -> last query and answer for each graph."""

    config: M3GNetPropertyConfig

    @nn.compact
    def __call__(
        self, atoms: Float[Array, "n u"], graph_of_node: Int[Array, " n"], n_graphs: int
    ) -> Float[Array, "g v"]:
        units, n_layers = atoms.shape[1], self.config.readout_layers
        layers = [
            (linear(4 * units, 2 * units if k == 0 else units, f"input_{k}"), linear(4 * units, units, f"hidden_{k}"))
            for k in range(n_layers)
        ]
        nothing = jnp.zeros((n_graphs, units), atoms.dtype)
        hidden, memory = [nothing] * n_layers, [nothing] * n_layers
        heard = jnp.concatenate([nothing, nothing], axis=1)
        for _ in range(self.config.readout_queries):
            query = heard
            for k, (of_input, of_hidden) in enumerate(layers):
                gates = of_input(query) + of_hidden(hidden[k])
                write, keep, new, show = jnp.split(gates, 4, axis=1)  # order of PyTorch's LSTM gates
                memory[k] = nn.sigmoid(keep) * memory[k] + nn.sigmoid(write) * jnp.tanh(new)
                query = hidden[k] = nn.sigmoid(show) * jnp.tanh(memory[k])
            heard = jnp.concatenate([query, _answer(atoms, query, graph_of_node)], axis=1)
        return heard


def _answer(
    atoms: Float[Array, "n u"], query: Float[Array, "g u"], graph_of_node: Int[Array, " n"]
) -> Float[Array, "g u"]:
    """Mean of the atom features of each graph, weighted by the softmax of their products with its query."""
    n_graphs = len(query)
    scores = jnp.sum(atoms * ascending_rows(query, graph_of_node), axis=1)
    largest = jax.ops.segment_max(scores, graph_of_node, n_graphs, indices_are_sorted=True)
    shares = jnp.exp(scores - ascending_rows(jax.lax.stop_gradient(largest), graph_of_node))[:, None]
    sums = jax.ops.segment_sum(
        jnp.concatenate([shares * atoms, shares], axis=1), graph_of_node, n_graphs, indices_are_sorted=True
    )
    return sums[:, :-1] / jnp.where(sums[:, -1:] > 0, sums[:, -1:], 1.0)
