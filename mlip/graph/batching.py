"""Batches of many graphs in arrays of a fixed shape, with little padding.

XLA compiles one program per shape, so batches take their shapes from a short ladder. Two functions make batches of
nearly equal size: `pack` under a budget of atoms or edges (inference), `deal` with the same number of structures per
batch (training).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jraph
import numpy as np
from jaxtyping import Bool, Int

_MIXED = 0.2
"""Standard deviation of the noise on the logarithm of sizes with which `deal` mixes structures. Batches become random
but remain nearly equal, because each still gets one structure of about every size."""


class Shape(NamedTuple):
    """Array sizes of a padded batch, including the padding."""

    n_node: int
    n_edge: int
    n_graph: int
    n_pair: int = 0
    """Number of bond pairs; 0 for graphs without pairs."""


class BondPairs(NamedTuple):
    """Pairs of edges, stored in `globals["pairs"]` of graphs that have them.

    Pairs relate to edges as edges relate to nodes: they are sorted by the edge at which they arrive.
    """

    columns: dict[str, np.ndarray]
    """Properties of the pairs, one row per pair."""
    senders: Int[np.ndarray, " p"]
    """Index of the sending edge."""
    receivers: Int[np.ndarray, " p"]
    """Index of the receiving edge, ascending."""
    n_pair: Int[np.ndarray, " g"]
    """Number of pairs in each graph."""


class ChoosesShapes(Protocol):
    """Chooses the array shape of a batch among shapes with a compiled program and new ones."""

    def choose(self, needed: Shape, n_evaluations: int = 1) -> Shape:
        """Shape with room for the needed sizes, including padding node and padding graph, for this many evaluations."""
        ...


class Padding(NamedTuple):
    """Fractions of a batch's slots that are padding."""

    nodes: float
    edges: float


@dataclass(frozen=True)
class ShapeLadder:
    """Shapes allowed for batches: the rungs in ascending order, then the last one times growth^k.

    Without rungs, each size is rounded up to a power of `growth` independently, for batches of any kind.
    """

    rungs: tuple[Shape, ...] = ()
    growth: float = 1.2

    @classmethod
    def from_sizes(cls, sizes: Int[np.ndarray, "k s"], n_graphs: int, n_batches: int) -> "ShapeLadder":
        """Ladder for batches of such structures, when `n_graphs` at a time are dealt to `n_batches`; found by trial.

        The rungs are the 50, 80 and 98 % quantiles of the batch sizes; those less than 8 % below the next are omitted,
        so that large, well-balanced batches have a single shape.

        Args:
            sizes: atoms, edges and, if present, bond pairs of a sample of structures.
        """
        rng = np.random.default_rng(0)
        loads = []
        for _ in range(12):
            sample = sizes[rng.choice(len(sizes), n_graphs, replace=n_graphs > len(sizes))]
            loads += [sample[batch].sum(0) for batch in deal(sample, n_batches, rng)]
        quantiles = np.ceil(1.01 * np.quantile(loads, [0.98, 0.8, 0.5], axis=0)).astype(int).tolist()
        rungs = [
            Shape(nodes + 1, max(edges, 1), math.ceil(n_graphs / n_batches) + 1, *(max(n, 1) for n in pairs))
            for nodes, edges, *pairs in quantiles
        ]
        kept = rungs[:1]
        for rung in rungs[1:]:
            if any(getattr(rung, size) < 0.92 * getattr(kept[0], size) for size in ("n_edge", "n_node", "n_pair")):
                kept.insert(0, rung)
        return cls(tuple(kept))

    def smallest(self, n_node: int, n_edge: int, n_graph: int, n_pair: int = 0) -> Shape:
        """First shape with room for these sizes, which include the padding node and the padding graph."""
        needed = Shape(n_node, n_edge, n_graph, n_pair)
        if not self.rungs:
            room = Shape(*map(self._on_grid, needed))
            return room if n_pair else room._replace(n_pair=0)
        higher = (
            Shape(*(math.ceil(size * self.growth**power) for size in self.rungs[-1])) for power in itertools.count(1)
        )
        return next(rung for rung in itertools.chain(self.rungs, higher) if fits(needed, rung))

    def choose(self, needed: Shape, n_evaluations: int = 1) -> Shape:
        """Same as `smallest`; the number of evaluations has no effect."""
        return self.smallest(*needed)

    def _on_grid(self, size: int) -> int:
        """Smallest of the sizes ceil(growth^k) that is at least `size`."""
        power = math.floor(math.log(max(size, 1), self.growth))
        rooms = (math.ceil(self.growth**k) for k in itertools.count(power))
        return next(room for room in rooms if room >= size)


def fits(needed: Shape, shape: Shape) -> bool:
    """Whether arrays of `shape` have room for these sizes, which include the padding node and graph."""
    return all(size <= room for size, room in zip(needed, shape, strict=True))


def pairs_of(graph: jraph.GraphsTuple) -> BondPairs | None:
    """Bond pairs of a graph or batch; None if it has none."""
    return graph.globals.get("pairs") if isinstance(graph.globals, dict) else None


def graph_sizes(graphs: Sequence[jraph.GraphsTuple]) -> Int[np.ndarray, "k s"]:
    """Atoms and edges of each graph, and bond pairs if the graphs have them."""
    if not graphs or pairs_of(graphs[0]) is None:
        return np.array([(len(g.nodes["species"]), len(g.senders)) for g in graphs], dtype=np.int64).reshape(-1, 2)
    sizes = [(len(g.nodes["species"]), len(g.senders), len(pairs_of(g).senders)) for g in graphs]
    return np.array(sizes, dtype=np.int64)


_FILLING = {
    "positions": 0.0,
    "cell": np.eye(3),
    "frame": -1,
    "multiplicity": 0.0,
    "fractions": 0.0,
    "lengths": 1.0,
    "vectors": 1.0,
    "cosines": 0.0,
}


def _filling(key: str, dtype: np.dtype):
    """Value of a padding slot: NaN for a missing label, 0 for no element and no shift."""
    return _FILLING.get(key, np.nan if dtype.kind == "f" else 0)


def pad_batch(graphs: Sequence[jraph.GraphsTuple], shape: Shape) -> jraph.GraphsTuple:
    """The graphs concatenated in arrays of exactly `shape`.

    The last graph is padding and owns all spare nodes (species 0), edges (from the last node to itself, so receivers
    stay sorted) and bond pairs (from the last edge to itself, of multiplicity 0). Spare graphs before it have no nodes.
    Labels of padding are NaN, its `frame` is -1, its cell the unit matrix.

    Args:
        graphs: one or more unpadded graphs with the same keys, e.g. of `crystal_graph`; may be fewer than shape.n_graph
            - 1.
    """
    sizes = graph_sizes(graphs)
    n_node, n_edge, *n_pair = sizes.sum(0).tolist()
    if not fits(Shape(n_node + 1, n_edge, len(graphs) + 1, *n_pair), shape):
        raise ValueError(f"{n_node} atoms, {n_edge} edges, {len(graphs)} graphs do not fit into {shape}")

    def gathered(columns: list[dict[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
        return {key: _gathered(key, [column[key] for column in columns], length) for key in columns[0]}

    def indices(arrays: list[np.ndarray], of: int, n_owned: int, n_owners: int) -> Int[np.ndarray, " e"]:
        first = np.repeat(np.cumsum(sizes[:, of - 1]) - sizes[:, of - 1], sizes[:, of]).astype(np.int32)
        return _indices(arrays, first, n_owned, n_owners)

    columns = {key: [g.globals[key] for g in graphs] for key in graphs[0].globals}
    if pairs := columns.pop("pairs", None):
        together = BondPairs(
            gathered([of_graph.columns for of_graph in pairs], shape.n_pair),
            indices([of_graph.senders for of_graph in pairs], 2, shape.n_pair, shape.n_edge),
            indices([of_graph.receivers for of_graph in pairs], 2, shape.n_pair, shape.n_edge),
            _counts(sizes[:, 2], shape.n_pair, shape.n_graph),
        )
    of_graphs = {key: _gathered(key, arrays, shape.n_graph) for key, arrays in columns.items()}
    return jraph.GraphsTuple(
        nodes=gathered([g.nodes for g in graphs], shape.n_node),
        edges=gathered([g.edges for g in graphs], shape.n_edge),
        receivers=indices([g.receivers for g in graphs], 1, shape.n_edge, shape.n_node),
        senders=indices([g.senders for g in graphs], 1, shape.n_edge, shape.n_node),
        globals=of_graphs | ({"pairs": together} if pairs else {}),
        n_node=_counts(sizes[:, 0], shape.n_node, shape.n_graph),
        n_edge=_counts(sizes[:, 1], shape.n_edge, shape.n_graph),
    )


def _gathered(key: str, arrays: list[np.ndarray], length: int) -> np.ndarray:
    total = sum(map(len, arrays))
    out = np.empty((length, *arrays[0].shape[1:]), arrays[0].dtype)
    np.concatenate(arrays, out=out[:total])
    out[total:] = _filling(key, out.dtype)
    return out


def _indices(arrays, first, n_owned: int, n_owners: int) -> Int[np.ndarray, " e"]:
    """Indices of owners, offset by `first`; padding gets the last owner."""
    indices = np.empty(n_owned, np.int32)
    n_real = len(first)
    np.concatenate(arrays, out=indices[:n_real])
    indices[:n_real] += first
    indices[n_real:] = n_owners - 1
    return indices


def _counts(real: Int[np.ndarray, "... r"], total: int, n_graph: int) -> Int[np.ndarray, "... g"]:
    counts = np.zeros((*real.shape[:-1], n_graph), np.int32)
    counts[..., : real.shape[-1]] = real
    counts[..., -1] = total - real.sum(-1)
    return counts


def nothing_like(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """Graph without atoms that has the arrays of `graph`; used to pad a batch without structures."""
    return jax.tree.map(lambda array: array[:0], graph)


def shape_of(batch: jraph.GraphsTuple) -> Shape:
    """Shape of a padded batch, or of each batch in a stack."""
    pairs = pairs_of(batch)
    n_pair = 0 if pairs is None else pairs.senders.shape[-1]
    return Shape(batch.nodes["species"].shape[-1], batch.senders.shape[-1], batch.n_node.shape[-1], n_pair)


def enlarge(batch: jraph.GraphsTuple, shape: Shape) -> jraph.GraphsTuple:
    """A padded batch, or a stack of them, with further padding up to `shape`."""
    stacked = batch.n_node.shape[:-1]
    axis = len(stacked)
    now = shape_of(batch)

    def extended(columns: dict[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
        return {key: extend(array, length, _filling(key, array.dtype)) for key, array in columns.items()}

    def extend(array: np.ndarray, length: int, filling) -> np.ndarray:
        extra = np.empty((*stacked, length - array.shape[axis], *array.shape[axis + 1 :]), array.dtype)
        extra[...] = filling
        return np.concatenate([array, extra], axis)

    def redirect(indices: np.ndarray) -> np.ndarray:
        indices = extend(indices, shape.n_edge, now.n_node - 1)
        return np.where(indices == now.n_node - 1, np.int32(shape.n_node - 1), indices)

    columns = dict(batch.globals)
    pairs = columns.pop("pairs", None)
    of_graphs = extended(columns, shape.n_graph)
    if pairs is not None:  # pairs of padding may start at a real edge, because their multiplicity is 0
        of_graphs["pairs"] = BondPairs(
            extended(pairs.columns, shape.n_pair),
            extend(pairs.senders, shape.n_pair, shape.n_edge - 1),
            extend(pairs.receivers, shape.n_pair, shape.n_edge - 1),
            _counts(pairs.n_pair[..., :-1], shape.n_pair, shape.n_graph),
        )
    return jraph.GraphsTuple(
        nodes=extended(batch.nodes, shape.n_node),
        edges=extended(batch.edges, shape.n_edge),
        receivers=redirect(batch.receivers),
        senders=redirect(batch.senders),
        globals=of_graphs,
        n_node=_counts(batch.n_node[..., :-1], shape.n_node, shape.n_graph),
        n_edge=_counts(batch.n_edge[..., :-1], shape.n_edge, shape.n_graph),
    )


def graph_mask(batch: jraph.GraphsTuple) -> Bool[np.ndarray, "... g"]:
    """Mask of the graphs in a padded batch that are structures; works on stacked batches and on JAX arrays."""
    n_node = batch.n_node
    return (n_node > 0) & (np.arange(n_node.shape[-1]) < n_node.shape[-1] - 1)


def padded_fraction(batch: jraph.GraphsTuple) -> Padding:
    """Padding as a fraction of a batch's nodes and edges; for stacked batches, of all together."""
    return Padding(
        nodes=float(batch.n_node[..., -1].sum() / batch.n_node.sum()),
        edges=float(batch.n_edge[..., -1].sum() / max(1, batch.n_edge.sum())),
    )


def pack(
    graphs: Sequence[jraph.GraphsTuple],
    shapes: ChoosesShapes,
    *,
    max_nodes: float = math.inf,
    max_edges: float = math.inf,
    max_pairs: float = math.inf,
) -> list[tuple[list[int], Shape]]:
    """Distribute structures over as few batches as the budget allows, all of nearly the same size and one shape.

    A structure that exceeds the budget gets its own batch and shape.

    Returns:
        For each batch the indices of its structures, ascending, and the shape to which it is padded.
    """
    sizes = graph_sizes(graphs)
    budget = np.array([max_nodes, max_edges, max_pairs])[: sizes.shape[1]]
    is_too_large = (sizes > budget).any(1)
    groups = _groups_within(np.flatnonzero(~is_too_large), sizes, budget)
    packed = []
    if groups:
        n_node, n_edge, *n_pair = np.max([sizes[group].sum(0) for group in groups], axis=0).tolist()
        shape = shapes.choose(Shape(n_node + 1, n_edge, max(map(len, groups)) + 1, *n_pair), len(groups))
        packed = [(group.tolist(), shape) for group in groups]
    for index in np.flatnonzero(is_too_large).tolist():
        n_node, n_edge, *n_pair = sizes[index].tolist()
        packed.append(([index], shapes.choose(Shape(n_node + 1, n_edge, 2, *n_pair))))
    return packed


def _groups_within(members: np.ndarray, sizes: np.ndarray, budget: np.ndarray) -> list[np.ndarray]:
    """Smallest number of groups found that fit the budget, with about equal numbers of atoms and edges."""
    if len(members) == 0:
        return []
    n_groups = math.ceil(max((sizes[members].sum(0) / budget).max(), 1))
    while True:
        groups = [members[group] for group in _spread(sizes[members], n_groups, math.inf, 0)]
        if all((sizes[group].sum(0) <= budget).all() for group in groups):
            return [group for group in groups if len(group)]
        n_groups += 1 + n_groups // 50


def deal(
    sizes: Int[np.ndarray, "k s"], n_batches: int, rng: np.random.Generator | None = None
) -> list[Int[np.ndarray, " b"]]:
    """Deal structures to `n_batches` with equal counts (within one) and nearly equal numbers of atoms and edges.

    Args:
        rng: mixes structures of about the same size. Without it, the same structures give the same batches in any
            order.

    Returns:
        For each batch the indices of its structures, ascending.
    """
    places, n_larger = divmod(len(sizes), n_batches)
    return _spread(sizes, n_batches, places, n_larger, rng)


def _spread(
    sizes: Int[np.ndarray, "k s"],
    n_batches: int,
    places: float,
    n_larger: int,
    rng: np.random.Generator | None = None,
) -> list[np.ndarray]:
    """Assign structures, largest first, to the batch with the smallest load of whatever the structure contributes most.

    This is the batch whose atoms and edges have the smallest scalar product with the structure's, each as a fraction of
    the total; it adds least to the sum of squares of the batch sizes.

    Args:
        places: largest number of structures in a batch; `n_larger` of the batches may have one more.
    """
    shares = sizes / np.maximum(sizes.sum(0), 1)
    largeness = shares.sum(1) if rng is None else shares.sum(1) * np.exp(_MIXED * rng.normal(size=len(sizes)))
    loads = np.zeros((n_batches, sizes.shape[1]))
    counts = np.zeros(n_batches, np.int64)
    closed = np.zeros(n_batches)
    batches: list[list[int]] = [[] for _ in range(n_batches)]
    for index in np.argsort(-largeness, kind="stable"):
        batch = int((loads @ shares[index] + closed).argmin())
        batches[batch].append(int(index))
        loads[batch] += shares[index]
        counts[batch] += 1
        if counts[batch] > places:
            n_larger -= 1
        if counts[batch] >= places:
            closed[counts >= places + (n_larger > 0)] = np.inf
    return [np.array(sorted(batch), dtype=np.int64) for batch in batches]
