"""Shuffles without a table: every element once, in an order that the key alone decides, and no pattern in it."""

import time

import numpy as np
import pytest

from mlip.graph.shuffle import permuted, shuffled_blocks
from tests.clean_process import with_peak_memory


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000])
def test_every_element_has_one_place(n):
    for key in range(5):
        assert sorted(permuted(np.arange(n), n, (key,)).tolist()) == list(range(n))
        for block in (1, 2, 7, 64):
            assert sorted(shuffled_blocks(np.arange(n), n, block, (key,)).tolist()) == list(range(n))


def test_places_are_the_same_whichever_are_asked_for():
    whole = permuted(np.arange(1000), 1000, (3, 1))
    some = np.array([999, 0, 17, 17])
    np.testing.assert_array_equal(permuted(some, 1000, (3, 1)), whole[some])


def test_each_element_comes_to_each_place_equally_often():
    n, n_keys = 13, 3000
    counts = np.zeros((n, n))
    for key in range(n_keys):
        counts[np.arange(n), permuted(np.arange(n), n, (key, 7))] += 1
    expected = n_keys / n
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 144 + 5 * np.sqrt(2 * 144)  # (n - 1)^2 = 144 degrees of freedom, five standard deviations


def test_neighbors_do_not_stay_near_each_other():
    found = permuted(np.arange(100_000), 100_000, (0,))
    for lag in (1, 2, 64):
        assert abs(np.corrcoef(found[:-lag], found[lag:])[0, 1]) < 5 / np.sqrt(100_000)


def test_members_of_a_block_stay_together_in_their_order():
    found = shuffled_blocks(np.arange(100), 100, 8, (1,))
    blocks = found[:96].reshape(12, 8)
    assert (np.diff(blocks, axis=1) == 1).all()
    assert (blocks[:, 0] % 8 == 0).all()
    assert blocks[:, 0].tolist() != sorted(blocks[:, 0].tolist())
    assert found[96:].tolist() == [96, 97, 98, 99]


def last_places(n: int) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    found = permuted(np.arange(n - 2048, n), n, (0,))
    return found, time.perf_counter() - start


def test_a_window_of_a_hundred_million_takes_no_more_than_itself():
    n = 10**8
    (found, seconds), peak = with_peak_memory(last_places, n)
    assert peak < 2_000_000
    assert seconds < 0.5  # 0.01 on an idle core; a table of all places takes longer
    assert len(set(found.tolist())) == 2048
    assert found.min() >= 0
    assert found.max() < n
