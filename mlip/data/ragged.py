"""Ragged columns: one long array in which each owner has consecutive rows, in the owners' order."""

import numpy as np
from jaxtyping import Int


def rows_of(places: Int[np.ndarray, " k"], sizes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " r"]:
    """Indices of the rows that belong to the owners at `places`, one owner after another; owner i has sizes[i] rows."""
    wanted = sizes[places]
    return rows_from((np.cumsum(sizes) - sizes)[places], wanted)


def rows_from(first: Int[np.ndarray, " k"], sizes: Int[np.ndarray, " k"]) -> Int[np.ndarray, " r"]:
    """Concatenated ranges: first[0], first[0] + 1, ... (sizes[0] numbers), then sizes[1] numbers from first[1] on,
    etc."""
    return np.repeat(first - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
