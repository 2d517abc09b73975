"""Many graphs in one array of a fixed shape, with little padding.

XLA compiles a program a shape, so batches take their shapes from a short ladder. Two ways to fill them, both
making batches of nearly the same size: `pack` under a budget of atoms or edges (inference), `deal` with the
same number of structures in each batch (training).
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
"""Standard deviation of the logarithm of the sizes that `deal` mixes: batches are as random as can be, and hardly less
equal, as each still gets one structure of about every size."""


class Shape(NamedTuple):
    """The array sizes of a padded batch, the padding included."""

    n_node: int
    n_edge: int
    n_graph: int
    n_pair: int = 0
    """Room for bond pairs; 0 for graphs that have none."""


class BondPairs(NamedTuple):
    """Pairs of edges, the third size of a graph that has some: its `globals["pairs"]`.

    An edge is to a pair what a node is to an edge: pairs are sorted by the edge they arrive at.
    """

    columns: dict[str, np.ndarray]
    """A row for each pair."""
    senders: Int[np.ndarray, " p"]
    """Edges, by their place."""
    receivers: Int[np.ndarray, " p"]
    """Edges, ascending."""
    n_pair: Int[np.ndarray, " g"]
    """Pairs of each graph."""


class ChoosesShapes(Protocol):
    """Chooses among the shapes that there are programs for, or may be."""

    def choose(self, needed: Shape, n_evaluations: int = 1) -> Shape:
        """A shape with room for what is needed, padding node and graph included, by that many batches."""
        ...


class Padding(NamedTuple):
    """The share of a batch's slots that hold nothing."""

    nodes: float
    edges: float


@dataclass(frozen=True)
class ShapeLadder:
    """The few shapes that batches may have: the rungs, ascending, then the last one times growth^k.

    Without rungs each size is rounded up to a power of `growth` for itself: for batches of any make.
    """

    rungs: tuple[Shape, ...] = ()
    growth: float = 1.2

    @classmethod
    def from_sizes(cls, sizes: Int[np.ndarray, "k s"], n_graphs: int, n_batches: int) -> "ShapeLadder":
        """The ladder for structures like these, `n_graphs` at a time dealt to `n_batches`: found by dealing.

        Rungs stand at the 50, 80 and 98 % quantiles of the batches' sizes; those less than 8 % below the
        next are left out, so that large, well balanced batches have a single shape.

        Args:
            sizes: atoms, edges and, where there are some, bond pairs of a sample of structures.
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
        """The first shape with room for these sizes, which include the padding node and the padding graph."""
        needed = Shape(n_node, n_edge, n_graph, n_pair)
        if not self.rungs:
            room = Shape(*map(self._on_grid, needed))
            return room if n_pair else room._replace(n_pair=0)
        higher = (
            Shape(*(math.ceil(size * self.growth**power) for size in self.rungs[-1])) for power in itertools.count(1)
        )
        return next(rung for rung in itertools.chain(self.rungs, higher) if fits(needed, rung))

    def choose(self, needed: Shape, n_evaluations: int = 1) -> Shape:
        """As `smallest`, however many batches of about that size there are."""
        return self.smallest(*needed)

    def _on_grid(self, size: int) -> int:
        """The smallest of the sizes ceil(growth^k) with room for `size`."""
        power = math.floor(math.log(max(size, 1), self.growth))
        rooms = (math.ceil(self.growth**k) for k in itertools.count(power))
        return next(room for room in rooms if room >= size)


def fits(needed: Shape, shape: Shape) -> bool:
    """Whether arrays of `shape` have room for these sizes, which include the padding node and graph."""
    return all(size <= room for size, room in zip(needed, shape, strict=True))


def pairs_of(graph: jraph.GraphsTuple) -> BondPairs | None:
    """The bond pairs of a graph, or of a batch; None: it has none."""
    return graph.globals.get("pairs") if isinstance(graph.globals, dict) else None


def graph_sizes(graphs: Sequence[jraph.GraphsTuple]) -> Int[np.ndarray, "k s"]:
    """Atoms and edges of each graph, and bond pairs where graphs have some."""
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
    """Value that a slot of padding holds: NaN is the missing label, 0 is no element and no shift."""
    return _FILLING.get(key, np.nan if dtype.kind == "f" else 0)


def pad_batch(graphs: Sequence[jraph.GraphsTuple], shape: Shape) -> jraph.GraphsTuple:
    """The graphs, one after another, in arrays of exactly `shape`.

    The last graph is padding and owns all spare nodes (species 0), edges (from the last node to itself, so
    receivers stay sorted) and bond pairs (from the last edge to itself, of multiplicity 0). Spare graphs before
    it have no nodes. Labels of padding are NaN, its `frame` is -1, its cell the unit matrix.

    Args:
        graphs: one or more unpadded graphs with the same keys, e.g. of `crystal_graph`; may be fewer than
            shape.n_graph - 1.
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
    """Indices of the arrays' owners, with `first` of each array added, then those of padding: the last owner."""
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
    """A graph with the arrays of `graph` but without atoms: a batch without structures is padded from it."""
    return jax.tree.map(lambda array: array[:0], graph)


def shape_of(batch: jraph.GraphsTuple) -> Shape:
    """Shape of a padded batch, or of each batch of a stack."""
    pairs = pairs_of(batch)
    n_pair = 0 if pairs is None else pairs.senders.shape[-1]
    return Shape(batch.nodes["species"].shape[-1], batch.senders.shape[-1], batch.n_node.shape[-1], n_pair)


def enlarge(batch: jraph.GraphsTuple, shape: Shape) -> jraph.GraphsTuple:
    """A padded batch, or a stack of them, with more padding."""
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
    if pairs is not None:  # spare pairs may begin at a real edge: their multiplicity is 0
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
    """Which graphs of a padded batch are structures; works on stacked batches and on JAX arrays."""
    n_node = batch.n_node
    return (n_node > 0) & (np.arange(n_node.shape[-1]) < n_node.shape[-1] - 1)


def padded_fraction(batch: jraph.GraphsTuple) -> Padding:
    """The padded share of a batch's nodes and edges; of all together when batches are stacked."""
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
    """Structures in as few batches as the budget allows, all of nearly the same size and of one shape.

    A structure above the budget is alone in its batch, whose shape is its own.

    Returns:
        For every batch the indices of its structures, ascending, and the shape to pad it to.
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
    """The members in groups of about equal atoms and edges, the fewest that are found to fit the budget."""
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
    """Structures dealt out to `n_batches` of equal count (to one) and nearly equal atoms and edges.

    Args:
        rng: decides who goes with whom among structures of about the same size. Without it the same structures give
            the same batches in whatever order they come.

    Returns:
        For every batch the indices of its structures, ascending.
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
    """Structures largest first, each to the batch with the least of what the structure has most of.

    That is the batch whose atoms and edges have the smallest scalar product with the structure's, each as a
    share of all: the choice which adds least to the sum of squares of the batches' sizes.

    Args:
        places: structures that a batch may have; `n_larger` of the batches one more.
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
