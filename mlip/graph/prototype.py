"""One prototype with many assignments of elements: the crystals share their edges, only the species differ.

Screening asks for millions of such crystals. There is one neighbor list and one compiled program for all of them,
and nothing is scattered: each node has as many slots for arriving edges as the busiest one.
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
    """c crystals of one prototype. Multiplicity 0 is padding, element 0 is none."""

    species: Int[np.ndarray, "n c"]
    senders: Int[np.ndarray, "n slots"]
    """Senders of the edges that arrive at a node, in its slots; their shells and multiplicities likewise."""
    shells: Int[np.ndarray, "n slots"]
    edge_multiplicity: Float[np.ndarray, "n slots"]
    node_multiplicity: Float[np.ndarray, " n"]
    elements: Int[np.ndarray, "c sites"]
    """Distinct ones of each crystal."""
    fractions: Float[np.ndarray, "c sites"]


@dataclass(frozen=True, eq=False)
class Prototype:
    """The structure that all crystals of a prototype share. Sites are numbered as their labels first appear in the
    structure."""

    site_of_node: Int[np.ndarray, " n"]
    """-1 for padding."""
    atoms_of_site: Int[np.ndarray, " sites"]
    senders: Int[np.ndarray, "n slots"]
    shells: Int[np.ndarray, "n slots"]
    edge_multiplicity: Float[np.ndarray, "n slots"]
    node_multiplicity: Float[np.ndarray, " n"]

    @classmethod
    def of(
        cls, structure: Atoms | Frame, n_neighbors: int = 24, *, cutoff: float = 18.0, tolerance: float = 1e-8
    ) -> "Prototype":
        """Atoms of the structure that are of one element are one site: they will be of one element again.

        Raises:
            MlipError: what `neighbor_shells` raises.
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
        """Slots of edges, those that are empty included."""
        return self.senders.size

    def batch(self, assignments: Int[np.ndarray, "c sites"]) -> PrototypeBatch:
        """Crystals with these atomic numbers on their sites; two sites may have the same."""
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
        """An element on several sites is one, in the place of the first."""
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
    """Prototype of any kind: a graph that is found once."""

    n_sites: int
    n_slots: int
    """Rows of the largest arrays of a crystal: edges, or pairs of bonds."""

    def batch(self, assignments: Int[np.ndarray, "c sites"]) -> Any:
        """Crystals with these atomic numbers on their sites."""


def prototype_batches(
    prototype: SharedGraph, assignments: Int[np.ndarray, "k sites"], batch_size: int
) -> Iterator[Any]:
    """All crystals in order, so many at a time; the last batch is filled up with its last crystal.

    Raises:
        MlipError: assignments of another number of sites.
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
