"""The crystal graph of CGAT: each atom's 24 nearest neighbors, with the index of their shell in place of a length.

J. Schmidt et al., Sci. Adv. 7, eabi7948 (2021). A strain that keeps the order of the neighbors changes nothing, so
prototypes need not be relaxed. Messages arrive at the *neighbor*: it hears of all centers that have it on their list.

Two things make the graph smaller, exactly. Edges with equal ends and shell carry equal messages: one is kept, with its
multiplicity. Atoms that the graph cannot tell apart have equal features: they are one node, with its multiplicity.
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
"""Distinct elements of a crystal: nine is the most in Materials Project and ALEXANDRIA."""
_ENOUGH = 1.7
"""Times the neighbors asked for, the mean number that the first search is wide enough for."""
_WIDER = 1.35


class NeighborShells(NamedTuple):
    """The k nearest neighbors of each atom by shell, then by the neighbor's index, then by its image.

    Where the k-th falls inside a shell, the rule decides which members stay: the same input gives the same list.
    """

    neighbors: Int[np.ndarray, "n k"]
    shifts: Int[np.ndarray, "n k 3"]
    """Whole cell vectors to the neighbor's image."""
    shells: Int[np.ndarray, "n k"]
    """From 1; a distance more than the tolerance beyond the first of a shell begins the next."""
    distances: Float[np.ndarray, "n k"]
    """A."""


def neighbor_shells(
    positions: Float[np.ndarray, "n 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, " 3"],
    n_neighbors: int = 24,
    *,
    cutoff: float = 18.0,
    tolerance: float = 1e-8,
) -> NeighborShells:
    """The nearest neighbors of each atom and their shells, periodic images and self-images included.

    Args:
        cutoff: A; as far as is searched.
        tolerance: A; distances that differ by less from the first of their shell belong to it.

    Raises:
        MlipError: an atom has fewer neighbors within `cutoff`, two atoms coincide, and what `neighbor_list` raises.
    """
    radius = min(_first_radius(positions, cell, pbc, n_neighbors), cutoff)
    while True:
        found = neighbor_list(positions, cell, pbc, radius + 2 * tolerance)
        counts = np.bincount(found.receivers, minlength=len(positions))
        distances = _distances(positions, cell, found)
        # The last shell must be complete for the rule to choose from: nothing of it may lie beyond the radius.
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
    """Radius of a sphere with rather more neighbors than are asked for, were the atoms evenly spread."""
    extents = np.ptp(positions @ np.linalg.inv(complete_cell(np.asarray(cell, float), np.asarray(pbc, bool))), axis=0)
    lengths = np.where(pbc, 1.0, np.maximum(extents, 1.0))  # open directions: as far as there are atoms, A
    volume = abs(np.linalg.det(complete_cell(np.asarray(cell, float), np.asarray(pbc, bool)))) * np.prod(lengths)
    return float((_ENOUGH * n_neighbors * volume / len(positions) * 3 / (4 * np.pi)) ** (1 / 3))


def _distances(positions, cell, found) -> Float[np.ndarray, " e"]:
    vectors = positions[found.senders] - positions[found.receivers] + found.shifts @ np.asarray(cell, float)
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))


def _walk(
    nearest: Float[np.ndarray, "n k"], tolerance: float
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Shell of each of the ascending distances, and the distance that begins this shell."""
    shells, begins = np.ones(nearest.shape, np.int32), nearest.copy()
    for j in range(1, nearest.shape[1]):
        is_next = nearest[:, j] > begins[:, j - 1] + tolerance
        shells[:, j] = shells[:, j - 1] + is_next
        begins[:, j] = np.where(is_next, nearest[:, j], begins[:, j - 1])
    return shells, begins


def _by_shell(found, distances, counts, shells, begins, tolerance: float) -> NeighborShells:
    """Everything up to the end of each atom's last shell, in order of the rule, cut after n_neighbors."""
    n_neighbors = shells.shape[1]
    ends = begins[:, -1] + tolerance
    near = distances <= ends[found.receivers]
    receivers = found.receivers[near]
    rank = np.zeros(len(receivers), np.int64)
    for j in range(n_neighbors):  # the last begin at or below the distance is its shell's
        rank = np.where(distances[near] >= begins[receivers, j], shells[receivers, j], rank)
    order = np.lexsort((rank, receivers))  # stable: neighbor and image are in ascending order already
    counts = np.bincount(receivers, minlength=len(counts))
    kept = order[(np.cumsum(counts) - counts)[:, None] + np.arange(n_neighbors)]
    original = np.flatnonzero(near)[kept]
    return NeighborShells(
        found.senders[original], found.shifts[original], rank[kept].astype(np.int32), distances[original]
    )


@dataclass(frozen=True)
class ShellGraph:
    """The nearest neighbors of each atom by shells; graphs are those of `shell_graph`."""

    n_neighbors: int = 24
    cutoff: float = 18.0
    """A; as far as neighbors are searched."""
    tolerance: float = 1e-8
    """A; distances that differ by less from the first of their shell belong to it."""

    def describe(self) -> str:
        """E.g. "shells of the 24 nearest neighbors within 18 Å"."""
        return f"shells of the {self.n_neighbors} nearest neighbors within {self.cutoff:g} Å"

    def graphs(self, structures: Structures, dtype: type = np.float32) -> list[jraph.GraphsTuple | MlipError]:
        """A graph of each structure, or why there can be none; shells are whole numbers, so `dtype` changes nothing."""
        return [self._graph(frame) for frame in structures.frames()]

    def _graph(self, frame: Frame) -> jraph.GraphsTuple | MlipError:
        try:
            return shell_graph(frame, self.n_neighbors, cutoff=self.cutoff, tolerance=self.tolerance)
        except MlipError as error:
            return error

    def example(self) -> jraph.GraphsTuple:
        """A node and an edge."""
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
    """The graph of one structure, without padding.

    nodes: `species` (n,) int32 atomic numbers; `multiplicity` (n,) float32, how many equal atoms the node stands for.
    edges: `shell` (e,) int32; `multiplicity` (e,) float32; `senders` the centers, `receivers` the neighbors on
        their lists, ascending.
    globals: `elements` (1, 10) int32 distinct atomic numbers in order of appearance, 0 where there are fewer;
        `fractions` (1, 10) float32 of the atoms.

    Raises:
        MlipError: no atoms, numbers that are no elements, more than ten elements, and what `neighbor_shells` raises.
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
    """Equal atoms as one node, equal edges as one edge; `species` are the labels. Without globals.

    Args:
        labels: what tells atoms apart to begin with: atomic numbers, or the sites of a prototype.
        senders, receivers, shells: of all edges, in any order.
    """
    node_of_atom, sizes = equal_nodes(labels, senders, receivers, shells)
    first_atom = np.zeros(len(sizes), np.int64)
    first_atom[node_of_atom[::-1]] = np.arange(len(labels))[::-1]
    represents = np.zeros(len(labels), bool)
    represents[first_atom] = True
    arriving = represents[receivers]  # at one atom of each node; the others hear the same
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
    """Distinct elements in order of appearance and their fractions of the atoms, filled up with zeros.

    Raises:
        MlipError: more than `MAX_ELEMENTS`.
    """
    distinct, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    if len(distinct) > MAX_ELEMENTS:
        raise MlipError(f"the structure has {len(distinct)} elements; {MAX_ELEMENTS} are the most")
    order = np.argsort(first)
    elements, fractions = np.zeros(MAX_ELEMENTS, np.int32), np.zeros(MAX_ELEMENTS, np.float32)
    elements[: len(order)] = distinct[order]
    fractions[: len(order)] = counts[order] / len(numbers)
    return elements, fractions
