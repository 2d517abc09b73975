"""The smallest networks that read each kind of input; nothing in mlip knows of them but for a line in the registry."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jraph import GraphsTuple
from pydantic import BaseModel, ConfigDict

from mlip.graph.batching import pairs_of
from mlip.graph.bond_pairs import BondPairGraph
from mlip.graph.composition import ElementList
from mlip.graph.radius_graph import RadiusGraph
from mlip.graph.shells import ShellGraph


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    element_vectors: Literal["learned", "fixed"] = "learned"

    @property
    def known_numbers(self) -> range:
        return range(1, 119)


class BondsConfig(_Config):
    model: Literal["bonds"] = "bonds"
    cutoff: float = 3.6

    @property
    def inputs(self) -> RadiusGraph:
        return RadiusGraph(self.cutoff)


class ShellsConfig(_Config):
    model: Literal["shells"] = "shells"

    @property
    def inputs(self) -> ShellGraph:
        return ShellGraph(4, 9.0, 1e-6)


class AnglesConfig(_Config):
    model: Literal["angles"] = "angles"

    @property
    def inputs(self) -> BondPairGraph:
        return BondPairGraph(4)


class ElementsConfig(_Config):
    model: Literal["elements"] = "elements"

    @property
    def inputs(self) -> ElementList:
        return ElementList(5)


class Bonds(nn.Module):
    """An energy of each atom, and of each bond by its length."""

    config: BondsConfig

    @nn.compact
    def __call__(self, graph: GraphsTuple) -> jax.Array:
        of_atom, of_bond = (nn.Embed(119, 1, name=name)(graph.nodes["species"])[:, 0] for name in ("atom", "bond"))
        squares = (graph.edges["vectors"] ** 2).sum(1)
        falling = jnp.where(squares < self.config.cutoff**2, (1 - squares / self.config.cutoff**2) ** 3, 0.0)
        bonds = jax.ops.segment_sum(falling * of_bond[graph.senders], graph.receivers, len(of_atom))
        return of_atom + bonds


def _of_graphs(values: jax.Array, graph: GraphsTuple) -> jax.Array:
    """Sums of the nodes' rows in each graph."""
    n_graphs = len(graph.n_node)
    owner = jnp.repeat(jnp.arange(n_graphs), graph.n_node, total_repeat_length=len(values))
    return jax.ops.segment_sum(values, owner, n_graphs)


class Shells(nn.Module):
    """The mean of what an atom is worth, and of what its neighbors are."""

    config: ShellsConfig

    @nn.compact
    def __call__(self, graph: GraphsTuple) -> jax.Array:
        own, others = (nn.Embed(119, 2, name=name)(graph.nodes["species"]) for name in ("atom", "neighbor"))
        arrived = jax.ops.segment_sum(others[graph.senders], graph.receivers, len(own))
        return _of_graphs(own + arrived / self.config.inputs.n_neighbors, graph) / jnp.maximum(graph.n_node, 1)[:, None]


class Angles(nn.Module):
    """The mean of what an atom is worth, and of the cosines of the angles at its neighbors."""

    config: AnglesConfig

    @nn.compact
    def __call__(self, graph: GraphsTuple) -> jax.Array:
        own, slopes = (nn.Embed(119, 2, name=name)(graph.nodes["species"]) for name in ("atom", "slope"))
        pairs = pairs_of(graph)
        bent = jax.ops.segment_sum(
            pairs.columns["cosines"] * pairs.columns["multiplicity"], pairs.receivers, len(graph.senders)
        )
        bent = jax.ops.segment_sum(bent[:, None] * slopes[graph.senders], graph.receivers, len(own))
        weights = graph.nodes["multiplicity"][:, None]
        return _of_graphs(weights * own + 1e-3 * bent, graph) / jnp.maximum(_of_graphs(weights, graph), 1.0)


class Elements(nn.Module):
    """What elements are worth, by their fractions."""

    config: ElementsConfig

    @nn.compact
    def __call__(self, graph: GraphsTuple) -> jax.Array:
        worth = nn.Embed(119, 2, name="element")(graph.nodes["species"])
        return _of_graphs(worth * graph.nodes["fractions"][:, None], graph)
