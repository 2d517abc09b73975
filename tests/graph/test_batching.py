"""Batches hold exactly the graphs that went in, in a few shapes and with little padding."""

import jax
import numpy as np
import pytest
from ase.build import bulk, molecule

from mlip.data.records import Frame
from mlip.graph.batching import (
    Shape,
    ShapeLadder,
    deal,
    enlarge,
    graph_mask,
    graph_sizes,
    nothing_like,
    pack,
    pad_batch,
    padded_fraction,
    shape_of,
)
from mlip.graph.labeled_graphs import EnergyLabels, labeled_graphs
from mlip.graph.radius_graph import RadiusGraph, crystal_graph


def graphs_with_labels():
    structures = [bulk("NaCl", "rocksalt", a=5.64), bulk("Cs", "bcc", a=9.0), molecule("C6H6"), bulk("Si") * (2, 1, 1)]
    rng = np.random.default_rng(0)
    frames = [
        Frame(
            a.numbers,
            a.positions,
            a.cell[:],
            a.pbc,
            energy=float(k),
            forces=rng.normal(size=(len(a), 3)),
            stress=rng.normal(size=6),
        )
        for k, a in enumerate(structures)
    ]
    return labeled_graphs(frames, RadiusGraph(5.0), EnergyLabels(np.zeros(119)))


def unpad(batch):
    """The graphs of a padded batch, indices counted from their own first node again."""
    first_node = first_edge = 0
    graphs = []
    for g in range(len(batch.n_node) - 1):
        nodes = slice(first_node, first_node + batch.n_node[g])
        edges = slice(first_edge, first_edge + batch.n_edge[g])
        if batch.n_node[g]:
            graphs.append(
                batch._replace(
                    nodes={key: array[nodes] for key, array in batch.nodes.items()},
                    edges={key: array[edges] for key, array in batch.edges.items()},
                    senders=batch.senders[edges] - first_node,
                    receivers=batch.receivers[edges] - first_node,
                    globals={key: array[g : g + 1] for key, array in batch.globals.items()},
                    n_node=batch.n_node[g : g + 1],
                    n_edge=batch.n_edge[g : g + 1],
                )
            )
        first_node, first_edge = nodes.stop, edges.stop
    return graphs


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_what_is_unpadded_is_what_was_padded():
    graphs = graphs_with_labels()
    batch = pad_batch(graphs, Shape(40, 900, 7))
    assert shape_of(batch) == Shape(40, 900, 7)
    for ours, theirs in zip(unpad(batch), graphs, strict=True):
        assert_equal(ours, theirs)


def test_padding_is_the_last_graph_and_touches_no_atom():
    graphs = graphs_with_labels()
    n_node, n_edge = graph_sizes(graphs).sum(0)
    batch = pad_batch(graphs, Shape(40, 900, 7))
    assert batch.n_node.tolist() == [*(len(g.nodes["species"]) for g in graphs), 0, 0, 40 - n_node]
    assert batch.n_edge[-1] == 900 - n_edge
    assert batch.n_node.sum() == 40
    assert (batch.nodes["species"][n_node:] == 0).all()
    assert (batch.senders[n_edge:] == 39).all()
    assert (batch.receivers[n_edge:] == 39).all()
    assert (np.diff(batch.receivers) >= 0).all()
    for label in (batch.nodes["forces"][n_node:], batch.globals["energy"][4:], batch.globals["stress"][4:]):
        assert np.isnan(label).all()
    assert batch.globals["frame"].tolist() == [0, 1, 2, 3, -1, -1, -1]
    assert (batch.globals["cell"][4:] == np.eye(3)).all()
    assert graph_mask(batch).tolist() == [True] * 4 + [False] * 3


def test_a_batch_that_does_not_fit_is_refused():
    graphs = graphs_with_labels()
    n_node, n_edge = graph_sizes(graphs).sum(0)
    for shape in (Shape(n_node, n_edge, 5), Shape(n_node + 1, n_edge - 1, 5), Shape(n_node + 1, n_edge, 4)):
        with pytest.raises(ValueError, match="do not fit"):
            pad_batch(graphs, shape)
    pad_batch(graphs, Shape(n_node + 1, n_edge, 5))


def test_a_batch_of_nothing_is_all_padding():
    batch = pad_batch([nothing_like(graphs_with_labels()[0])], Shape(3, 5, 2))
    assert batch.n_node.tolist() == [0, 3]
    assert batch.n_edge.tolist() == [0, 5]
    assert np.isnan(batch.globals["energy"]).all()
    assert batch.globals["frame"].tolist() == [-1, -1]
    assert not graph_mask(batch).any()


def test_an_enlarged_batch_is_the_batch_padded_to_the_larger_shape():
    graphs = graphs_with_labels()
    small, large = Shape(30, 800, 5), Shape(47, 931, 9)
    assert_equal(enlarge(pad_batch(graphs, small), large), pad_batch(graphs, large))
    stacked = jax.tree.map(lambda a: np.stack([a, a]), pad_batch(graphs, small))
    assert_equal(enlarge(stacked, large), jax.tree.map(lambda a: np.stack([a, a]), pad_batch(graphs, large)))
    assert_equal(enlarge(pad_batch(graphs, small), small), pad_batch(graphs, small))


def test_padded_fraction_counts_slots_of_all_devices():
    batch = pad_batch(graphs_with_labels()[:1], Shape(4, 200, 2))
    n_edge = batch.n_edge[0]
    assert padded_fraction(batch) == (0.5, (200 - n_edge) / 200)
    full = pad_batch(graphs_with_labels()[:1], Shape(3, n_edge, 2))
    stacked = jax.tree.map(lambda *a: np.stack(a), batch, pad_batch(graphs_with_labels()[:1], Shape(4, 200, 2)))
    assert padded_fraction(stacked) == padded_fraction(batch)
    assert padded_fraction(full).edges == 0


def crystal_sizes(n: int, seed: int = 0) -> np.ndarray:
    """Atoms and edges distributed like ALEXANDRIA's at 5 A: 8 +- 7 atoms, 23 +- 15 neighbors."""
    rng = np.random.default_rng(seed)
    n_atoms = np.clip(rng.lognormal(1.7, 0.8, n), 1, 80).astype(int)
    return np.stack([n_atoms, (n_atoms * np.clip(rng.normal(23, 15, n), 0, None)).astype(int)], 1)


@pytest.mark.parametrize("n", [1, 5, 63, 64, 65, 1000])
@pytest.mark.parametrize("n_batches", [1, 3, 64])
def test_dealing_gives_every_structure_once_and_batches_of_equal_count(n, n_batches):
    dealt = deal(crystal_sizes(n), n_batches)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(n))
    counts = [len(batch) for batch in dealt]
    assert max(counts) - min(counts) <= 1


def test_dealt_batches_are_nearly_equal_in_atoms_and_edges():
    sizes = crystal_sizes(2048)
    for rng, unequal in ((None, 1.03), (np.random.default_rng(0), 1.06)):
        totals = np.array([sizes[batch].sum(0) for batch in deal(sizes, 64, rng)])
        assert (totals.max(0) / totals.mean(0) < unequal).all()
    in_order = sizes.reshape(64, 32, 2).sum(1)
    assert (in_order.max(0) / in_order.mean(0) > 1.3).all()  # what it would be without


@pytest.mark.parametrize("n", [88, 2048])
def test_who_is_dealt_with_whom_is_as_random_as_can_be(n):
    """Else a run whose epochs are one window each learns from the same batches over and over."""
    sizes, rng = crystal_sizes(n), np.random.default_rng(0)
    first, second = (company(deal(sizes, n // 4, rng)) for _ in range(2))
    assert len(first & second) / len(first) < 3 * 3 / (n - 1) + 0.01  # 3 / (n - 1) of random batches
    assert company(deal(sizes, n // 4)) == company(deal(sizes, n // 4))


def company(batches) -> set[tuple[int, int]]:
    """Pairs that share a batch."""
    return {(int(a), int(b)) for batch in batches for a in batch for b in batch if a < b}


@pytest.mark.parametrize("graphs_per_batch", [32, 128])
def test_training_batches_have_few_shapes_and_less_than_a_tenth_of_padding(graphs_per_batch):
    sizes = crystal_sizes(20_000)
    n_batches = 2048 // graphs_per_batch
    ladder = ShapeLadder.from_sizes(sizes, 2048, n_batches)
    used, slots, rng = [], np.zeros(2), np.random.default_rng(0)
    for start in range(0, 9 * 2048, 2048):
        window = sizes[start : start + 2048]
        for batch in deal(window, n_batches, rng):
            n_node, n_edge = window[batch].sum(0).tolist()
            shape = ladder.smallest(n_node + 1, n_edge, len(batch) + 1)
            used.append(shape)
            slots += [shape.n_node, shape.n_edge]
    padding = 1 - sizes[: 9 * 2048].sum(0) / slots
    assert (padding < 0.1).all()
    assert len(set(used)) <= 2


def test_the_ladder_gives_the_smallest_rung_that_fits_and_goes_on_above_the_last():
    ladder = ShapeLadder((Shape(10, 100, 5), Shape(20, 200, 5)), growth=1.5)
    assert ladder.smallest(10, 100, 5) == Shape(10, 100, 5)
    assert ladder.smallest(11, 10, 5) == Shape(20, 200, 5)
    assert ladder.smallest(10, 201, 5) == Shape(30, 300, 8)
    assert ladder.smallest(10, 100, 9) == Shape(45, 450, 12)
    assert ladder.smallest(100, 0, 2) == Shape(102, 1013, 26)


def test_without_rungs_every_size_has_its_own_geometric_grid():
    ladder = ShapeLadder()
    sizes = np.arange(1, 3000)
    rooms = np.array([ladder.smallest(int(n), int(n), 2).n_edge for n in sizes])
    assert (rooms >= sizes).all()
    assert (rooms[10:] <= 1.2 * sizes[10:] + 1).all()
    assert len(set(rooms.tolist())) <= 45
    assert all(ladder.smallest(int(room), int(room), 2).n_edge == room for room in set(rooms.tolist()))


def test_packing_gives_every_graph_once_within_the_budget_in_one_shape():
    graphs = graphs_with_labels() * 20
    packed = pack(graphs, ShapeLadder(), max_nodes=50)
    assert sorted(k for members, _ in packed for k in members) == list(range(len(graphs)))
    sizes = graph_sizes(graphs)
    assert all(sizes[members].sum(0)[0] <= 50 for members, _ in packed)
    assert len({shape for _, shape in packed}) == 1
    assert len(packed) <= 1.1 * sizes.sum(0)[0] / 50 + 1
    for members, shape in packed:
        pad_batch([graphs[k] for k in members], shape)


def test_a_graph_above_the_budget_is_packed_alone():
    small, large = crystal_graph(bulk("Cu"), 4.0), crystal_graph(bulk("Cu") * (4, 4, 4), 4.0)
    packed = pack([small, large, small], ShapeLadder(), max_nodes=10)
    assert sorted(members for members, _ in packed) == [[0, 2], [1]]


def test_nothing_packs_into_no_batch():
    assert pack([], ShapeLadder(), max_nodes=10) == []
