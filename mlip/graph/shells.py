"""Crystal graph of CGAT: the 24 nearest neighbors of each atom, with the index of their shell instead of a length.

J. Schmidt et al., Sci. Adv. 7, eabi7948 (2021). A strain that preserves the order of the neighbors changes nothing, so
prototypes need not be relaxed. Messages arrive at the *neighbor*, from all centers that have it on their list.

Two exact reductions make the graph smaller. Edges with equal ends and shell carry equal messages, so one is kept with
its multiplicity. Atoms that the graph cannot distinguish have equal features, so they form one node with its
multiplicity.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jraph
import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int

from mlip.data.quality import COINCIDENT
from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.graph.inputs import check_structure
from mlip.graph.neighbors import complete_cell, neighbor_list
from mlip.graph.quotient import equal_nodes
from mlip.graph.stacked_structures import Structures

MAX_ELEMENTS = 10
"""Largest number of distinct elements in a crystal; Materials Project and ALEXANDRIA have at most nine."""
_ENOUGH = 1.7
"""Mean number of neighbors in the first search radius, relative to the number requested."""
_WIDER = 1.35


class NeighborShells(NamedTuple):
    """The k nearest neighbors of each atom, sorted by shell, then by the neighbor's index, then by its image.

    If the k-th neighbor is inside a shell, this order decides which members are kept, so that the same input gives the
    same list.
    """

    neighbors: Int[np.ndarray, "n k"]
    shifts: Int[np.ndarray, "n k 3"]
    """Lattice vectors to the image of the neighbor."""
    shells: Int[np.ndarray, "n k"]
    """Index of the shell, starting at 1; a new shell starts at a distance more than the tolerance beyond its first
    one."""
    distances: Float[np.ndarray, "n k"]
    """Distance from the center, A."""


def neighbor_shells(
    positions: Float[np.ndarray, "n 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, " 3"],
    n_neighbors: int = 24,
    *,
    cutoff: float = 18.0,
    tolerance: float = 1e-8,
) -> NeighborShells:
    """Nearest neighbors of each atom and their shells, including periodic images and self-images.

    Args:
        cutoff: largest search radius, A.
        tolerance: distances that exceed the first of a shell by at most this belong to it, A.

    Raises:
        MlipError: an atom has too few neighbors within `cutoff`, or two atoms coincide; see also `neighbor_list`.
    """
    radius = min(_first_radius(positions, cell, pbc, n_neighbors), cutoff)
    while True:
        found = neighbor_list(positions, cell, pbc, radius + 2 * tolerance)
        counts = np.bincount(found.receivers, minlength=len(positions))
        distances = _distances(positions, cell, found)
        # The last shell must be complete, i.e. within the search radius, before members are selected from it.
        if counts.min(initial=n_neighbors) >= n_neighbors:
            order = np.lexsort((distances, found.receivers))
            first = np.cumsum(counts) - counts
            nearest = distances[order][first[:, None] + np.arange(n_neighbors)]
            if radius >= cutoff or nearest[:, -1].max() + tolerance <= radius:
                break
        elif radius >= cutoff:
            raise MlipError(
                f"atom {int(counts.argmin())} has {counts.min()} neighbors within {cutoff} A, {n_neighbors} are needed"
            )
        radius = min(radius * _WIDER, cutoff)
    if nearest.min() < COINCIDENT:
        raise MlipError(f"atom {int(nearest.min(1).argmin())} coincides with another", fix="remove the duplicate atom")
    return _by_shell(found, distances, counts, *_walk(nearest, tolerance), tolerance)


def _first_radius(positions, cell, pbc, n_neighbors: int) -> float:
    """Radius of a sphere with somewhat more neighbors than requested if the atoms were evenly distributed, A."""
    extents = np.ptp(positions @ np.linalg.inv(complete_cell(np.asarray(cell, float), np.asarray(pbc, bool))), axis=0)
    lengths = np.where(pbc, 1.0, np.maximum(extents, 1.0))  # extent of the atoms along open directions, A
    volume = abs(np.linalg.det(complete_cell(np.asarray(cell, float), np.asarray(pbc, bool)))) * np.prod(lengths)
    return float((_ENOUGH * n_neighbors * volume / len(positions) * 3 / (4 * np.pi)) ** (1 / 3))


def _distances(positions, cell, found) -> Float[np.ndarray, " e"]:
    vectors = positions[found.senders] - positions[found.receivers] + found.shifts @ np.asarray(cell, float)
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))


def _walk(
    nearest: Float[np.ndarray, "n k"], tolerance: float
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Shell of each of the ascending distances, and the distance at which this shell starts."""
    shells, begins = np.ones(nearest.shape, np.int32), nearest.copy()
    for j in range(1, nearest.shape[1]):
        is_next = nearest[:, j] > begins[:, j - 1] + tolerance
        shells[:, j] = shells[:, j - 1] + is_next
        begins[:, j] = np.where(is_next, nearest[:, j], begins[:, j - 1])
    return shells, begins


def _by_shell(found, distances, counts, shells, begins, tolerance: float) -> NeighborShells:
    """Neighbors up to the end of each atom's last shell, sorted, and truncated to n_neighbors."""
    n_neighbors = shells.shape[1]
    ends = begins[:, -1] + tolerance
    near = distances <= ends[found.receivers]
    receivers = found.receivers[near]
    rank = np.zeros(len(receivers), np.int64)
    for j in range(n_neighbors):  # the last start not above the distance belongs to its shell
        rank = np.where(distances[near] >= begins[receivers, j], shells[receivers, j], rank)
    order = np.lexsort((rank, receivers))  # stable: already sorted by neighbor and image
    counts = np.bincount(receivers, minlength=len(counts))
    kept = order[(np.cumsum(counts) - counts)[:, None] + np.arange(n_neighbors)]
    original = np.flatnonzero(near)[kept]
    return NeighborShells(
        found.senders[original], found.shifts[original], rank[kept].astype(np.int32), distances[original]
    )


@dataclass(frozen=True)
class ShellGraph:
    """The nearest neighbors of each atom by shells; graphs have the format of `shell_graph`."""

    n_neighbors: int = 24
    cutoff: float = 18.0
    """Largest search radius, A."""
    tolerance: float = 1e-8
    """Distances that exceed the first of a shell by at most this belong to it, A."""

    def describe(self) -> str:
        """Short description, e.g. "shells of the 24 nearest neighbors within 18 Å"."""
        return f"shells of the {self.n_neighbors} nearest neighbors within {self.cutoff:g} Å"

    def graphs(self, structures: Structures, dtype: type = np.float32) -> list[jraph.GraphsTuple | MlipError]:
        """Graph of each structure, or an error that says why there is none; `dtype` has no effect, because shells are
        integers."""
        return [self._graph(frame) for frame in structures.frames()]

    def _graph(self, frame: Frame) -> jraph.GraphsTuple | MlipError:
        try:
            return shell_graph(frame, self.n_neighbors, cutoff=self.cutoff, tolerance=self.tolerance)
        except MlipError as error:
            return error

    def example(self) -> jraph.GraphsTuple:
        """Graph with one node and one edge."""
        one, index = np.ones(1, np.float32), np.zeros(1, np.int32)
        return jraph.GraphsTuple(
            nodes={"species": index, "multiplicity": one},
            edges={"shell": index, "multiplicity": one},
            senders=index,
            receivers=index,
            globals={"elements": index[None], "fractions": one[None]},
            n_node=index + 1,
            n_edge=index + 1,
        )


def shell_graph(
    structure: Frame | Atoms, n_neighbors: int = 24, *, cutoff: float = 18.0, tolerance: float = 1e-8
) -> jraph.GraphsTuple:
    """Graph of one structure, without padding.

    nodes: `species` (n,) int32 atomic numbers; `multiplicity` (n,) float32, equivalent atoms that the node represents.
    edges: `shell` (e,) int32; `multiplicity` (e,) float32; `senders` the centers, `receivers` the neighbors on
        their lists, ascending.
    globals: `elements` (1, 10) int32 distinct atomic numbers in order of appearance, padded with 0;
        `fractions` (1, 10) float32 of the atoms.

    Raises:
        MlipError: there are no atoms, an atomic number is invalid, or there are more than ten elements; see also
            `neighbor_shells`.
    """
    check_structure(structure)
    numbers = np.asarray(structure.numbers, np.int32)
    shells = neighbor_shells(
        np.asarray(structure.positions, float),
        np.asarray(structure.cell, float),
        np.asarray(structure.pbc, bool),
        n_neighbors,
        cutoff=cutoff,
        tolerance=tolerance,
    )
    elements, fractions = composition(numbers)
    centers = np.repeat(np.arange(len(numbers)), n_neighbors)
    graph = merged_graph(numbers, centers, shells.neighbors.ravel(), shells.shells.ravel())
    return graph._replace(globals={"elements": elements[None], "fractions": fractions[None]})


def merged_graph(
    labels: Int[np.ndarray, " n"],
    senders: Int[np.ndarray, " e"],
    receivers: Int[np.ndarray, " e"],
    shells: Int[np.ndarray, " e"],
) -> jraph.GraphsTuple:
    """Graph with equivalent atoms merged into one node and equal edges into one edge; `species` are the labels. No
    globals.

    Args:
        labels: initial classes of the atoms: atomic numbers, or the sites of a prototype.
        senders, receivers, shells: of all edges, in any order.
    """
    node_of_atom, sizes = equal_nodes(labels, senders, receivers, shells)
    first_atom = np.zeros(len(sizes), np.int64)
    first_atom[node_of_atom[::-1]] = np.arange(len(labels))[::-1]
    represents = np.zeros(len(labels), bool)
    represents[first_atom] = True
    arriving = represents[receivers]  # edges to one atom of each node; the others receive the same
    edges = np.stack([node_of_atom[receivers], node_of_atom[senders], shells], axis=1)[arriving]
    edges, multiplicity = np.unique(edges, axis=0, return_counts=True)
    return jraph.GraphsTuple(
        nodes={"species": labels[first_atom].astype(np.int32), "multiplicity": sizes.astype(np.float32)},
        edges={"shell": edges[:, 2].astype(np.int32), "multiplicity": multiplicity.astype(np.float32)},
        receivers=edges[:, 0].astype(np.int32),
        senders=edges[:, 1].astype(np.int32),
        globals={},
        n_node=np.array([len(sizes)], np.int32),
        n_edge=np.array([len(edges)], np.int32),
    )


def composition(numbers: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Distinct elements in order of appearance and their fractions of the atoms, padded with zeros.

    Raises:
        MlipError: there are more than `MAX_ELEMENTS`.
    """
    distinct, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    if len(distinct) > MAX_ELEMENTS:
        raise MlipError(f"the structure has {len(distinct)} elements; {MAX_ELEMENTS} are the most")
    order = np.argsort(first)
    elements, fractions = np.zeros(MAX_ELEMENTS, np.int32), np.zeros(MAX_ELEMENTS, np.float32)
    elements[: len(order)] = distinct[order]
    fractions[: len(order)] = counts[order] / len(numbers)
    return elements, fractions
