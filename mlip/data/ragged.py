"""Ragged columns: one long array in which each owner has a run of rows, in the owners' order."""

import numpy as np
from jaxtyping import Int


def rows_of(places: Int[np.ndarray, " k"], sizes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " r"]:
    """The rows that belong to the owners at `places`, one owner after another; owner i has sizes[i] rows."""
    wanted = sizes[places]
    first = np.cumsum(sizes)[places] - wanted
    return np.repeat(first - (np.cumsum(wanted) - wanted), wanted) + np.arange(wanted.sum())
