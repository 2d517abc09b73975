"""One prototype with many assignments of elements, for networks that read bonds and pairs of bonds. All crystals share
bonds, lengths and angles, so their graphs are copies of one graph."""

from dataclasses import dataclass
from functools import lru_cache

import jraph
import numpy as np
from ase import Atoms
from jaxtyping import Int

from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.graph.batching import BondPairs, pairs_of
from mlip.graph.bond_pairs import BondPairGraph
from mlip.graph.stacked_structures import Structures


@dataclass(frozen=True, eq=False)
class BondPairPrototype:
    """Graph that all crystals of a prototype share. Sites are numbered in order of appearance in the structure; atoms
    of the same site that the graph cannot distinguish form one node."""

    site_of_node: Int[np.ndarray, " n"]
    n_sites: int
    graph: jraph.GraphsTuple
    """The graph; its `species` are site numbers starting at 1."""

    @classmethod
    def of(cls, structure: Atoms | Frame, inputs: BondPairGraph, dtype: type = np.float32) -> "BondPairPrototype":
        """Prototype of a structure. All atoms of one element form one site and will again be of one element.

        Args:
            inputs: the model's `config.inputs`.
            dtype: of lengths and cosines.

        Raises:
            MlipError: no graph can be built from the structure.
        """
        _, first, labels = np.unique(np.asarray(structure.numbers), return_index=True, return_inverse=True)
        labels = np.argsort(np.argsort(first))[labels]
        marked = Frame(labels + 1, structure.positions, np.asarray(structure.cell), np.asarray(structure.pbc))
        (graph,) = inputs.graphs(Structures.of([marked]), dtype)
        if isinstance(graph, MlipError):
            raise graph
        return cls(graph.nodes["species"] - 1, int(labels.max()) + 1, graph)

    @property
    def n_slots(self) -> int:
        """Number of pairs of bonds."""
        return len(pairs_of(self.graph).senders)

    def batch(self, assignments: Int[np.ndarray, "c sites"]) -> jraph.GraphsTuple:
        """Batch of crystals with these atomic numbers on their sites, without padding; sites may share an element."""
        repeated = _repeated(self, len(assignments))
        species = assignments[:, self.site_of_node].ravel().astype(np.int32)
        return repeated._replace(nodes=repeated.nodes | {"species": species})


@lru_cache(maxsize=4)
def _repeated(prototype: BondPairPrototype, n: int) -> jraph.GraphsTuple:
    graph, pairs = prototype.graph, pairs_of(prototype.graph)
    n_node, n_edge = len(graph.nodes["species"]), len(graph.senders)

    def rows(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {key: np.concatenate([column] * n) for key, column in columns.items()}

    def indices(one: np.ndarray, n_owners: int) -> np.ndarray:
        return (one + n_owners * np.arange(n)[:, None]).ravel().astype(np.int32)

    together = BondPairs(
        rows(pairs.columns),
        indices(pairs.senders, n_edge),
        indices(pairs.receivers, n_edge),
        np.repeat(pairs.n_pair, n),
    )
    return jraph.GraphsTuple(
        nodes=rows(graph.nodes),
        edges=rows(graph.edges),
        senders=indices(graph.senders, n_node),
        receivers=indices(graph.receivers, n_node),
        globals={"pairs": together},
        n_node=np.repeat(graph.n_node, n),
        n_edge=np.repeat(graph.n_edge, n),
    )
