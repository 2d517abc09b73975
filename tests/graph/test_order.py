"""The order of frames: each once an epoch, or each source its share; any place found without those before it."""

import pickle
from collections import Counter

import numpy as np
import pytest

from mlip.graph.order import EpochOrder, FrameRuns, Source, Windows

SOURCES = [Source(np.arange(1000), 6.0), Source(np.arange(1000, 1100), 3.0), Source(np.arange(1100, 1111), 1.0)]


def epoch(order: EpochOrder, number: int) -> list[int]:
    return order.frames(number, np.arange(order.n_frames)).tolist()


@pytest.mark.parametrize("block", [1, 8, 64, 5000])
def test_an_epoch_of_one_source_has_every_frame_once(block):
    indices = np.sort(np.random.default_rng(0).choice(5000, 999, replace=False))
    order = EpochOrder([Source(indices, 1.0)], seed=3, block=block)
    for number in range(3):
        assert sorted(epoch(order, number)) == indices.tolist()
    if block < 999:
        assert epoch(order, 0) != epoch(order, 1)


def test_sources_share_an_epoch_by_their_weights():
    order = EpochOrder(SOURCES, seed=0, block=8)
    assert order.n_frames == 1111
    for number in range(3):
        counts = [sum(frame in source.indices for frame in epoch(order, number)) for source in SOURCES]
        assert counts == order.counts.tolist() == [667, 333, 111]


@pytest.mark.parametrize("block", [1, 8])
def test_no_frame_comes_again_before_all_of_its_source_have_come(block):
    order, seen = EpochOrder(SOURCES, seed=0, block=block), Counter()
    for number in range(4):
        seen.update(epoch(order, number))
        for source in SOURCES:
            times = [seen[frame] for frame in source.indices.tolist()]
            assert max(times) - min(times) <= 1


def test_shares_of_sources_are_even_throughout_an_epoch():
    order = EpochOrder(SOURCES, seed=0, block=8)
    windows = [order.frames(0, np.arange(start, start + 250)) for start in range(0, 1000, 250)]
    for frames in windows:
        assert abs((frames < 1000).mean() - 0.6) < 0.15  # 31 blocks of 8 a window: 0.09 is one standard deviation


def test_another_seed_is_another_order_and_the_same_seed_the_same():
    orders = [EpochOrder(SOURCES, seed=seed, block=8) for seed in (0, 0, 1)]
    first, again, other = (epoch(order, 5) for order in orders)
    assert first == again
    assert first != other


def test_runs_give_the_indices_of_which_they_are_made():
    rng = np.random.default_rng(0)
    for indices in (
        np.arange(100),
        np.sort(rng.choice(1000, 300, replace=False)),
        rng.permutation(50),
        np.array([0, 1, 2, 500, 501, 3, 4]),
        np.array([7]),
    ):
        runs = FrameRuns(indices)
        assert len(runs) == len(indices)
        places = rng.integers(0, len(indices), 200)
        np.testing.assert_array_equal(runs[places], indices[places])


def test_ten_million_frames_of_whole_materials_take_little_memory():
    of_material = np.random.default_rng(0).random(10**6) < 0.9  # ten frames each, 90 % of them for training
    indices = np.flatnonzero(np.repeat(of_material, 10))
    order = EpochOrder([Source(indices, 1.0)], seed=0)
    assert len(pickle.dumps(order)) < 0.03 * indices.nbytes


def test_an_epoch_may_be_longer_than_its_sources_or_shorter():
    for n_frames in (10, 2000):
        order = EpochOrder(SOURCES, seed=0, n_frames=n_frames)
        assert len(epoch(order, 0)) == order.n_frames == n_frames == order.counts.sum()
    replay = [Source(np.arange(24), 24), Source(np.arange(100, 140), 8)]
    order, replayed = EpochOrder(replay, seed=0, n_frames=32), []
    for number in range(5):
        found = np.array(epoch(order, number))
        assert sorted(found[found < 100].tolist()) == list(range(24))
        replayed += found[found >= 100].tolist()
    assert sorted(replayed) == list(range(100, 140))  # all of them, before one comes again


@pytest.mark.parametrize("process_count", [1, 2, 3, 4])
@pytest.mark.parametrize("n_frames", [1, 2, 11, 12, 13, 95, 96, 97, 250])
def test_processes_share_every_place_in_equally_many_steps(n_frames, process_count):
    batch_size = 12
    shares = [Windows(n_frames, batch_size, 4, index, process_count) for index in range(process_count)]
    places = []
    for number in range(shares[0].n_windows):
        found = [windows.share(number) for windows in shares]
        lengths = [stop - start for start, stop, _ in found]
        assert max(lengths) - min(lengths) <= 1
        n_steps = {steps for *_, steps in found}
        assert len(n_steps) == 1
        assert max(lengths) <= n_steps.pop() * (batch_size // process_count)
        places += [place for start, stop, _ in found for place in range(start, stop)]
    assert places == list(range(n_frames))
    assert shares[0].steps_per_epoch == -(-n_frames // batch_size)
