"""A structure as a graph: atoms are nodes, pairs within the cutoff are edges, labels travel along.

Arrays are numpy's, on the host; `graph.batching` packs them into the fixed shapes that a device wants.
"""

import jraph
import numpy as np
from ase import Atoms
from jaxtyping import Float

from mlip.data.quality import COINCIDENT
from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.graph.neighbors import Neighbors, neighbor_list


def crystal_graph(
    structure: Frame | Atoms,
    cutoff: float,
    *,
    dtype: type = np.float32,
    reference_energies: Float[np.ndarray, " 119"] | None = None,
    index: int = -1,
) -> jraph.GraphsTuple:
    """The graph of one structure, without padding.

    nodes: `species` (n,) int32 atomic numbers, `positions` (n, 3) A.
    edges: `shifts` (e, 3) int32; `receivers` the centre atoms, ascending; `senders` their neighbours. The
        edge vector is positions[senders] + shifts @ cell - positions[receivers].
    globals: `cell` (1, 3, 3) A, `frame` (1,) int32.

    Args:
        cutoff: A.
        dtype: of positions and cell; labels are float32.
        reference_energies: eV by atomic number. When given, `structure` is a Frame and the graph is
            labelled: globals `energy` (1,) eV, the total energy minus the atoms' reference energies
            (subtracted in float64), and `stress` (1, 6) eV/A^3; nodes `forces` (n, 3) eV/A. NaN = missing.
        index: what `frame` says, the frame's place in its store.

    Raises:
        MlipError: no atoms, coincident atoms, numbers that are no elements, an element without reference
            energy, and what `neighbor_list` raises.
    """
    numbers = np.asarray(structure.numbers, dtype=np.int32)
    _check_numbers(numbers, index)
    positions = np.asarray(structure.positions, dtype=np.float64)
    pbc = np.asarray(structure.pbc, dtype=bool)
    cell = np.array(structure.cell, dtype=np.float64)  # rows of open directions too: they give the stress its volume
    if not np.isfinite(cell.sum()):
        raise MlipError("lattice vectors are not finite", where=_name(index))
    neighbors = neighbor_list(positions, cell, pbc, cutoff)
    _check_distances(positions, cell, neighbors, index)

    nodes = {"species": numbers, "positions": positions.astype(dtype)}
    globals_ = {"cell": cell.astype(dtype)[None], "frame": np.array([index], dtype=np.int32)}
    if reference_energies is not None:
        nodes["forces"], globals_["energy"], globals_["stress"] = _labels(structure, reference_energies, index)
    return jraph.GraphsTuple(
        nodes=nodes,
        edges={"shifts": neighbors.shifts},
        receivers=neighbors.receivers,
        senders=neighbors.senders,
        globals=globals_,
        n_node=np.array([len(numbers)], dtype=np.int32),
        n_edge=np.array([len(neighbors.senders)], dtype=np.int32),
    )


def _labels(frame: Frame, reference_energies, index: int):
    """Forces (n, 3), interaction energy (1,) and stress (1, 6), float32, NaN where unknown."""
    n_atoms = len(frame.numbers)
    reference = float(np.sum(reference_energies[frame.numbers], dtype=np.float64))
    if np.isnan(reference) and not np.isnan(frame.energy):
        unknown = sorted({int(z) for z in frame.numbers if np.isnan(reference_energies[z])})
        raise MlipError(
            f"no reference energy for atomic numbers {unknown}",
            where=_name(index),
            fix="fit the reference energies on data that contain these elements",
        )
    forces = np.full((n_atoms, 3), np.nan) if frame.forces is None else frame.forces
    stress = np.full(6, np.nan) if frame.stress is None else frame.stress
    energy = np.array([frame.energy - reference], dtype=np.float32)
    return np.asarray(forces, np.float32), energy, np.asarray(stress, np.float32)[None]


def _check_numbers(numbers, index: int) -> None:
    if len(numbers) == 0:
        raise MlipError("the structure has no atoms", where=_name(index))
    if numbers.min() < 1 or numbers.max() > 118:
        raise MlipError("atomic numbers must be 1 to 118", where=_name(index))


def _check_distances(positions, cell, neighbors: Neighbors, index: int) -> None:
    receivers, senders, shifts = neighbors
    vectors = positions[senders] - positions[receivers] + shifts @ cell
    squared = np.einsum("ij,ij->i", vectors, vectors)
    if squared.size and squared.min() < COINCIDENT**2:
        closest = int(squared.argmin())
        raise MlipError(
            f"atoms {receivers[closest]} and {senders[closest]} coincide "
            f"({np.sqrt(squared[closest]):.1e} A apart, periodic images counted)",
            where=_name(index),
            fix="remove the duplicate atom",
        )


def _name(index: int) -> str | None:
    return f"frame {index}" if index >= 0 else None
