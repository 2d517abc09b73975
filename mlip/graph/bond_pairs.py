"""Crystal graph of ALIGNN and its line graph: bonds to the nearest neighbors, and pairs of bonds with their angles.

K. Choudhary and B. DeCost, npj Comput. Mater. 7, 185 (2021). A pair consists of a bond a that arrives at the atom from
which bond b leaves; all pairs of different bonds exist, including b = a reversed. Pairs dominate the cost, with some
thirty per bond.

Atoms, bonds and pairs that the graph cannot distinguish have equal features in every layer and contribute equally to
every sum and mean. One of them represents all, with a multiplicity (`mlip.graph.alike_bonds`). This is exact, and
leaves a fraction of the pairs for most crystals.
"""

from dataclasses import dataclass
from typing import Literal

import jraph
import numpy as np

from mlip.errors import MlipError
from mlip.graph.alike_bonds import BondGraphs, alike_bonds, every_bond
from mlip.graph.batching import BondPairs
from mlip.graph.inputs import check_structure
from mlip.graph.nearest_bonds import BondRule, Bonds, nearest_bonds
from mlip.graph.stacked_structures import Structures

_AT_ONCE = 1 << 19
"""Pairs of bonds compared in one array, which thus stays in the cache."""
_SAME = {4: 1e-6, 8: 1e-10}
"""Differences below which lengths (A) and cosines are equal, by bytes per number; they exceed rounding errors."""


@dataclass(frozen=True)
class BondPairGraph:
    """Bonds to nearest neighbors, and pairs of bonds, as graphs.

    nodes: `species` (n,) int32; `multiplicity` (n,), number of equivalent atoms that the node represents.
    edges: `lengths` (e,) A; `multiplicity` (e,), over all atoms; `receivers` ascend.
    globals: `pairs`, a `BondPairs` with columns `cosines` (p,) of the angle at the atom where the bonds meet and
        `multiplicity` (p,).

    With `vectors`, edges also have `vectors` (e, 3) A from receiver to sender, for networks that are differentiated;
    nothing is merged then.
    """

    n_neighbors: int = 12
    """Number of nearest neighbors to which each atom proposes bonds; includes all neighbors as close as the last
    one."""
    cutoff: float = 8.0
    """Cutoff radius if `neighbors` is "radius", A."""
    neighbors: Literal["nearest", "radius"] = "nearest"
    """Bonds to the nearest neighbors, or to all neighbors within the cutoff."""
    tolerance: float = 1e-6
    """Neighbors whose distances differ by less are equally close, A."""
    lattice_decimals: int | None = None
    """Decimals to which lattice vectors (A) are rounded; None does not round. The original rounds to five, which moves
    atoms by 1e-5 A and breaks the symmetry of hexagonal cells."""
    merges: bool = True
    """Whether equivalent atoms, bonds and pairs are merged into one row with a multiplicity."""
    vectors: bool = False

    def describe(self) -> str:
        """Short description, e.g. "bonds to the 12 nearest neighbors, and pairs of bonds"."""
        if self.neighbors == "radius":
            return f"bonds shorter than {self.cutoff:g} Å, and pairs of bonds"
        return f"bonds to the {self.n_neighbors} nearest neighbors, and pairs of bonds"

    def graphs(self, structures: Structures, dtype: type = np.float32) -> list[jraph.GraphsTuple | MlipError]:
        """Graph of each structure, or an error that says why there is none."""
        frames = structures.frames()
        results: list[jraph.GraphsTuple | MlipError | None] = [_why_not(frame) for frame in frames]
        sound = [k for k, fault in enumerate(results) if fault is None]
        if len(sound) < len(frames):
            structures = Structures.of(frames[k] for k in sound)
        for k, graph in zip(sound, self._graphs_of_sound(structures, np.dtype(dtype)), strict=True):
            results[k] = graph
        return results

    def _graphs_of_sound(self, structures: Structures, dtype) -> list[jraph.GraphsTuple | MlipError]:
        structures = self._rounded(structures)
        rule = BondRule(None if self.neighbors == "radius" else self.n_neighbors, self.cutoff, self.tolerance)
        found = nearest_bonds(structures, rule)
        results = [bonds if isinstance(bonds, MlipError) else None for bonds in found]
        for chunk in _chunks([k for k, fault in enumerate(results) if fault is None], found):
            for k, graph in zip(chunk, self._graphs(structures, chunk, found, dtype), strict=True):
                results[k] = graph
        return results

    def _rounded(self, structures: Structures) -> Structures:
        """Structures with the lattice vectors of crystals rounded; fractional coordinates are unchanged."""
        if self.lattice_decimals is None:
            return structures
        cells, owner = structures.cells, np.repeat(np.arange(len(structures.sizes)), structures.sizes)
        with np.errstate(all="ignore"):
            are_crystals = structures.pbc.all(1) & (np.abs(np.linalg.det(cells)) > 0) & np.isfinite(cells).all((1, 2))
        change = np.where(are_crystals[:, None, None], cells.round(self.lattice_decimals) - cells, 0.0)
        inverse = np.linalg.inv(np.where(are_crystals[:, None, None], cells, np.eye(3)))
        moved = structures.positions + np.einsum("ai,aij->aj", structures.positions, (inverse @ change)[owner])
        return structures._replace(positions=moved, cells=cells + change)

    def _graphs(self, structures: Structures, chunk: list[int], found: list[Bonds], dtype) -> list[jraph.GraphsTuple]:
        sizes = structures.sizes[chunk]
        starts = structures.first_atoms
        numbers = np.concatenate([structures.numbers[starts[k] : starts[k] + structures.sizes[k]] for k in chunk])
        bonds = _joined([found[k] for k in chunk], sizes)
        owner = np.repeat(np.arange(len(chunk)), sizes)
        if self.merges and not self.vectors:
            graphs = alike_bonds(bonds, numbers, owner, _SAME[dtype.itemsize])
        else:
            graphs = every_bond(bonds, numbers)
        return self._split(graphs, owner, len(chunk), dtype)

    def _split(self, all_of: BondGraphs, owner, n_graphs: int, dtype) -> list[jraph.GraphsTuple]:
        of_node = owner[all_of.atoms]
        n_node, n_edge, n_pair = (
            np.bincount(of, minlength=n_graphs)
            for of in (of_node, of_node[all_of.receivers], of_node[all_of.receivers[all_of.pair_receivers]])
        )
        nodes = {
            "species": all_of.species.astype(np.int32),
            "multiplicity": all_of.node_multiplicity.astype(dtype),
        }
        edges = {"lengths": all_of.lengths.astype(dtype), "multiplicity": all_of.edge_multiplicity.astype(dtype)}
        if self.vectors:
            edges["vectors"] = all_of.vectors.astype(dtype)
        columns = {"cosines": all_of.cosines.astype(dtype), "multiplicity": all_of.pair_multiplicity.astype(dtype)}
        first_node, first_edge = np.cumsum(n_node) - n_node, np.cumsum(n_edge) - n_edge
        senders, receivers = (
            (array - np.repeat(first_node, n_edge)).astype(np.int32) for array in (all_of.senders, all_of.receivers)
        )
        pair_senders, pair_receivers = (
            (array - np.repeat(first_edge, n_pair)).astype(np.int32)
            for array in (all_of.pair_senders, all_of.pair_receivers)
        )
        graphs = []
        at = np.zeros(3, int)
        for sizes in np.stack([n_node, n_edge, n_pair], 1):
            of_nodes, of_edges, of_pairs = map(slice, at.tolist(), (at + sizes).tolist())
            at += sizes
            pairs = BondPairs(
                {key: column[of_pairs] for key, column in columns.items()},
                pair_senders[of_pairs],
                pair_receivers[of_pairs],
                sizes[2:].astype(np.int32),
            )
            graphs.append(
                jraph.GraphsTuple(
                    nodes={key: column[of_nodes] for key, column in nodes.items()},
                    edges={key: column[of_edges] for key, column in edges.items()},
                    senders=senders[of_edges],
                    receivers=receivers[of_edges],
                    globals={"pairs": pairs},
                    n_node=sizes[:1].astype(np.int32),
                    n_edge=sizes[1:2].astype(np.int32),
                )
            )
        return graphs

    def example(self) -> jraph.GraphsTuple:
        """Padded batch with one bond and one pair."""
        one, index = np.ones(1, np.float32), np.zeros(1, np.int32)
        counts = np.array([1, 0], np.int32)
        edges = {"lengths": one, "multiplicity": one} | (
            {"vectors": np.ones((1, 3), np.float32)} if self.vectors else {}
        )
        return jraph.GraphsTuple(
            nodes={"species": np.ones(2, np.int32), "multiplicity": np.array([1, 0], np.float32)},
            edges=edges,
            senders=index,
            receivers=index,
            globals={"pairs": BondPairs({"cosines": one, "multiplicity": one}, index, index, counts)},
            n_node=np.array([1, 1], np.int32),
            n_edge=counts,
        )


def _why_not(frame) -> MlipError | None:
    try:
        check_structure(frame)
    except MlipError as error:
        return error
    return None


def _chunks(places: list[int], found: list[Bonds]) -> list[list[int]]:
    """Groups of structures with about `_AT_ONCE` pairs of bonds each."""
    chunks: list[list[int]] = []
    room = 0
    for k in places:
        n_pairs = int((np.bincount(found[k].receivers) ** 2).sum()) if len(found[k].receivers) else 0
        if not chunks or n_pairs > room:
            chunks.append([])
            room = _AT_ONCE
        chunks[-1].append(k)
        room -= n_pairs
    return chunks


def _joined(found: list[Bonds], sizes) -> Bonds:
    """Bonds of several structures concatenated, with atom and row indices offset."""
    n_bonds = np.array([len(bonds.receivers) for bonds in found])
    first_atom, first_bond = np.cumsum(sizes) - sizes, np.cumsum(n_bonds) - n_bonds
    return Bonds(
        *(
            np.concatenate([getattr(bonds, name) for bonds in found]) + np.repeat(first_atom, n_bonds)
            for name in ("receivers", "senders")
        ),
        np.concatenate([bonds.vectors for bonds in found]),
        np.concatenate([bonds.reverse for bonds in found]) + np.repeat(first_bond, n_bonds),
    )
