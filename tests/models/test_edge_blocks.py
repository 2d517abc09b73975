"""Edges in blocks: nothing lost, nothing mixed."""

import jraph
import numpy as np
import pytest

from mlip.models.edge_blocks import edge_blocks


@pytest.mark.parametrize("size", [1, 3, 8])
def test_every_edge_is_in_one_slot_of_a_block_of_its_center(size):
    counts = np.array([5, 0, 8, 1, 3])
    receivers = np.repeat(np.arange(5), counts).astype(np.int32)
    n_edges = len(receivers)
    vectors = np.arange(1, 3 * n_edges + 1, dtype=np.float32).reshape(n_edges, 3)
    senders = np.random.default_rng(0).integers(0, 5, n_edges).astype(np.int32)
    graph = jraph.GraphsTuple(None, {"vectors": vectors}, receivers, senders, None, None, None)
    blocks = edge_blocks(graph, n_nodes=5, size=size, padding_length=-1.0)
    is_edge = np.asarray(blocks.vectors[:, 0]) > 0
    np.testing.assert_array_equal(blocks.vectors[is_edge], vectors)  # in their order
    np.testing.assert_array_equal(blocks.senders[is_edge], senders)
    np.testing.assert_array_equal(blocks.slot_receivers[is_edge], receivers)
    assert (np.diff(blocks.receivers) >= 0).all()
    sums = blocks.sum_blocks(is_edge.reshape(-1, size).sum(axis=1), n_nodes=5)
    np.testing.assert_array_equal(sums, counts)
