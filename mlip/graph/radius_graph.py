"""Graphs of the bonds shorter than a cutoff, the input of M3GNet, MACE and all other potentials.

Small crystals are searched thousands at a time, all other structures individually; both give the same edges in the same
order. Arrays are NumPy arrays on the host; `graph.batching` packs them into arrays of fixed shapes for the device.
"""

from dataclasses import dataclass

import jraph
import numpy as np
from ase import Atoms

from mlip.data.quality import COINCIDENT
from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.graph.inputs import check_structure
from mlip.graph.near import FARTHEST, near_origin
from mlip.graph.neighbors import Neighbors, neighbor_list
from mlip.graph.small_crystals import small_crystal_neighbors
from mlip.graph.stacked_structures import Structures


@dataclass(frozen=True)
class RadiusGraph:
    """All bonds shorter than `cutoff`, including periodic images; graphs have the format of `crystal_graph`."""

    cutoff: float
    """Cutoff radius, A."""

    def describe(self) -> str:
        """Short description, e.g. "bonds shorter than 5 Å"."""
        return f"bonds shorter than {self.cutoff:g} Å"

    def graphs(self, structures: Structures, dtype: type = np.float32) -> list[jraph.GraphsTuple | MlipError]:
        """Graph of each structure, or an error that says why there is none."""
        species = structures.numbers.astype(np.int32)
        positions = structures.positions.astype(dtype)
        cells = structures.cells.astype(dtype)
        is_ordinary = _are_ordinary(structures)
        starts, sizes = structures.first_atoms.tolist(), structures.sizes.tolist()
        frames = None
        graphs: list[jraph.GraphsTuple | MlipError] = []
        for k, neighbors in enumerate(small_crystal_neighbors(structures, self.cutoff)):
            if neighbors is None or not is_ordinary[k]:
                frames = frames or structures.frames()
                graphs.append(self._by_itself(frames[k], dtype))
                continue
            atoms = slice(starts[k], starts[k] + sizes[k])
            graphs.append(_graph(species[atoms], positions[atoms], cells[k : k + 1], neighbors))
        return graphs

    def _by_itself(self, frame: Frame, dtype: type) -> jraph.GraphsTuple | MlipError:
        try:
            return crystal_graph(frame if frame.amounts is not None else near_origin(frame), self.cutoff, dtype=dtype)
        except MlipError as error:
            return error

    def example(self) -> jraph.GraphsTuple:
        """Batch of one atom with one bond of length sqrt(3) A, with edge vectors instead of positions, as networks read
        it."""
        return jraph.GraphsTuple(
            nodes={"species": np.ones(2, np.int32)},
            edges={"vectors": np.ones((1, 3), np.float32)},
            senders=np.zeros(1, np.int32),
            receivers=np.zeros(1, np.int32),
            globals={"head": np.zeros(2, np.int32)},
            n_node=np.array([1, 1], np.int32),
            n_edge=np.array([1, 0], np.int32),
        )


def crystal_graph(structure: Frame | Atoms, cutoff: float, *, dtype: type = np.float32) -> jraph.GraphsTuple:
    """Graph of one structure, without padding.

    nodes: `species` (n,) int32 atomic numbers, `positions` (n, 3) A.
    edges: `shifts` (e, 3) int32; `receivers` the center atoms, ascending; `senders` their neighbors. The
        edge vector is positions[senders] + shifts @ cell - positions[receivers].
    globals: `cell` (1, 3, 3) A.

    Args:
        cutoff: cutoff radius, A.
        dtype: of positions and cell.

    Raises:
        MlipError: there are no atoms, atoms coincide, or an atomic number is invalid; see also `neighbor_list`.
    """
    check_structure(structure)
    numbers = np.asarray(structure.numbers, dtype=np.int32)
    positions = np.asarray(structure.positions, dtype=np.float64)
    pbc = np.asarray(structure.pbc, dtype=bool)
    cell = np.array(structure.cell, dtype=np.float64)  # open directions included: they define the volume for stress
    if not np.isfinite(cell.sum()):
        raise MlipError("lattice vectors are not finite")
    neighbors = neighbor_list(positions, cell, pbc, cutoff)
    _check_distances(positions, cell, neighbors)
    return _graph(numbers, positions.astype(dtype), cell.astype(dtype)[None], neighbors)


def _graph(species: np.ndarray, positions: np.ndarray, cell: np.ndarray, neighbors: Neighbors) -> jraph.GraphsTuple:
    return jraph.GraphsTuple(
        nodes={"species": species, "positions": positions},
        edges={"shifts": neighbors.shifts},
        receivers=neighbors.receivers,
        senders=neighbors.senders,
        globals={"cell": cell},
        n_node=np.array([len(species)], np.int32),
        n_edge=np.array([len(neighbors.senders)], np.int32),
    )


def _are_ordinary(structures: Structures) -> np.ndarray:
    """(k,) whether each structure has atoms, with valid atomic numbers and positions near the origin."""
    is_odd = (structures.numbers < 1) | (structures.numbers > 118)
    is_odd |= np.abs(structures.positions).max(axis=1, initial=0) > FARTHEST
    have = structures.sizes > 0
    have[np.repeat(np.arange(len(structures.sizes)), structures.sizes)[is_odd]] = False
    return have


def _check_distances(positions, cell, neighbors: Neighbors) -> None:
    receivers, senders, shifts = neighbors
    vectors = positions[senders] - positions[receivers] + shifts @ cell
    squared = np.einsum("ij,ij->i", vectors, vectors)
    if squared.size and squared.min() < COINCIDENT**2:
        closest = int(squared.argmin())
        raise MlipError(
            f"atoms {receivers[closest]} and {senders[closest]} coincide "
            f"({np.sqrt(squared[closest]):.1e} A apart, periodic images counted)",
            fix="remove the duplicate atom",
        )
