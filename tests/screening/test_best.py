"""The best candidate of each composition, in whatever order they come."""

import numpy as np
import pytest

from mlip.screening.best import Best


@pytest.mark.parametrize("at_most", [None, 30])
def test_what_is_kept_does_not_depend_on_order_or_portions(at_most):
    rng = np.random.default_rng(0)
    n = 2000
    compositions, distances = rng.integers(0, 100, n), rng.integers(0, 50, n) / 100  # with ties
    expected = {}
    for k in sorted(range(n), key=lambda k: (distances[k], k)):
        expected.setdefault(int(compositions[k]), k)
    expected = sorted(expected.values(), key=lambda k: (distances[k], k))[:at_most]
    for portion in (7, 400):
        best, order = Best(at_most), rng.permutation(n)
        for start in range(0, n, portion):
            part = order[start : start + portion]
            best.add(compositions[part], part, distances[part])
            if portion == 400:
                best.settle()
        best.settle()
        assert best.candidates.tolist() == expected
        np.testing.assert_array_equal(best.distances, distances[expected])
        np.testing.assert_array_equal(best.compositions, compositions[expected])
