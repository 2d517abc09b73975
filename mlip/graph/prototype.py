"""One prototype with many assignments of elements: the crystals share their edges and differ only in species.

Screening needs millions of such crystals. All of them use one neighbor list and one compiled program, without any
scatter: each node has as many slots for incoming edges as the node with most edges.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from ase import Atoms
from jaxtyping import Float, Int

from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.graph.batching import ShapeLadder
from mlip.graph.shells import merged_graph, neighbor_shells


class PrototypeBatch(NamedTuple):
    """Batch of c crystals of one prototype. Multiplicity 0 and element 0 are padding."""

    species: Int[np.ndarray, "n c"]
    senders: Int[np.ndarray, "n slots"]
    """Sender of the edge in each slot of the receiving node; shells and multiplicities have the same layout."""
    shells: Int[np.ndarray, "n slots"]
    edge_multiplicity: Float[np.ndarray, "n slots"]
    node_multiplicity: Float[np.ndarray, " n"]
    elements: Int[np.ndarray, "c sites"]
    """Distinct elements of each crystal; 0 fills the rest."""
    fractions: Float[np.ndarray, "c sites"]


@dataclass(frozen=True, eq=False)
class Prototype:
    """Structure that all crystals of a prototype share. Sites are numbered in order of appearance in the structure."""

    site_of_node: Int[np.ndarray, " n"]
    """Site of each node; -1 for padding."""
    atoms_of_site: Int[np.ndarray, " sites"]
    senders: Int[np.ndarray, "n slots"]
    shells: Int[np.ndarray, "n slots"]
    edge_multiplicity: Float[np.ndarray, "n slots"]
    node_multiplicity: Float[np.ndarray, " n"]

    @classmethod
    def of(
        cls, structure: Atoms | Frame, n_neighbors: int = 24, *, cutoff: float = 18.0, tolerance: float = 1e-8
    ) -> "Prototype":
        """Prototype of a structure. All atoms of one element form one site and will again be of one element.

        Raises:
            MlipError: see `neighbor_shells`.
        """
        _, first, labels = np.unique(np.asarray(structure.numbers), return_index=True, return_inverse=True)
        labels = np.argsort(np.argsort(first))[labels]
        near = neighbor_shells(
            np.asarray(structure.positions, float),
            np.asarray(structure.cell, float),
            np.asarray(structure.pbc, bool),
            n_neighbors,
            cutoff=cutoff,
            tolerance=tolerance,
        )
        centers = np.repeat(np.arange(len(labels)), n_neighbors)
        graph = merged_graph(labels, centers, near.neighbors.ravel(), near.shells.ravel())
        arriving = np.bincount(graph.receivers, minlength=graph.n_node[0])
        room = ShapeLadder().smallest(int(graph.n_node[0]), int(arriving.max()), 1)  # few shapes for many prototypes
        shape = room.n_node, room.n_edge
        place = graph.receivers, np.arange(len(graph.receivers)) - (np.cumsum(arriving) - arriving)[graph.receivers]
        return cls(
            site_of_node=_filled(room.n_node, slice(int(graph.n_node[0])), graph.nodes["species"], filling=-1),
            atoms_of_site=np.bincount(labels),
            senders=_filled(shape, place, graph.senders),
            shells=_filled(shape, place, graph.edges["shell"]),
            edge_multiplicity=_filled(shape, place, graph.edges["multiplicity"]),
            node_multiplicity=_filled(room.n_node, slice(int(graph.n_node[0])), graph.nodes["multiplicity"]),
        )

    @property
    def n_sites(self) -> int:
        return len(self.atoms_of_site)

    @property
    def n_slots(self) -> int:
        """Number of edge slots, including empty ones."""
        return self.senders.size

    def batch(self, assignments: Int[np.ndarray, "c sites"]) -> PrototypeBatch:
        """Batch of crystals with these atomic numbers on their sites; sites may share an element."""
        species = np.where(self.site_of_node[:, None] >= 0, assignments.T[self.site_of_node], 0)
        elements, fractions = self._compositions(assignments)
        return PrototypeBatch(
            species.astype(np.int32),
            self.senders,
            self.shells,
            self.edge_multiplicity,
            self.node_multiplicity,
            elements,
            fractions,
        )

    def _compositions(self, assignments):
        """Distinct elements and fractions of each crystal; an element on several sites is counted at the first of
        them."""
        counts = np.broadcast_to(self.atoms_of_site, assignments.shape).copy()
        elements = assignments.copy()
        for site in range(1, self.n_sites):
            for earlier in range(site):
                is_same = elements[:, site] == assignments[:, earlier]
                is_same &= elements[:, earlier] > 0
                counts[is_same, earlier] += counts[is_same, site]
                counts[is_same, site] = elements[is_same, site] = 0
        return elements.astype(np.int32), (counts / self.atoms_of_site.sum()).astype(np.float32)


class SharedGraph(Protocol):
    """Prototype of any kind, whose graph is built once."""

    n_sites: int
    n_slots: int
    """Rows of the largest arrays per crystal: edges or pairs of bonds."""

    def batch(self, assignments: Int[np.ndarray, "c sites"]) -> Any:
        """Batch of crystals with these atomic numbers on their sites."""


def prototype_batches(
    prototype: SharedGraph, assignments: Int[np.ndarray, "k sites"], batch_size: int
) -> Iterator[Any]:
    """Batches of `batch_size` crystals in order; the last batch is filled with copies of its last crystal.

    Raises:
        MlipError: the assignments do not match the number of sites.
    """
    if assignments.ndim != 2 or assignments.shape[1] != prototype.n_sites:
        raise MlipError(f"the prototype has {prototype.n_sites} sites, the assignments are {assignments.shape}")
    for start in range(0, len(assignments), batch_size):
        chosen = assignments[start : start + batch_size]
        if start and len(chosen) < batch_size:
            chosen = np.concatenate([chosen, np.repeat(chosen[-1:], batch_size - len(chosen), axis=0)])
        yield prototype.batch(chosen)


def _filled(shape, place, values, filling=0) -> np.ndarray:
    array = np.full(shape, filling, values.dtype)
    array[place] = values
    return array
