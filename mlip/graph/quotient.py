"""Nodes that a graph network cannot distinguish, by color refinement (Weisfeiler and Leman, 1968).

Two nodes are equivalent if they have equal labels and receive equally many equal edges from equivalent neighbors, to
any depth. For any weights, a message-passing network gives them the same features.
"""

import numpy as np
from jaxtyping import Int

_SEED = np.uint64(0x9E3779B97F4A7C15)


def equal_nodes(
    labels: Int[np.ndarray, " n"],
    senders: Int[np.ndarray, " e"],
    receivers: Int[np.ndarray, " e"],
    kinds: Int[np.ndarray, " e"],
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " c"]]:
    """Class of each node, numbered in order of appearance, and the sizes of the classes.

    Multisets of messages are compared by sums of 64-bit hashes.

    Args:
        kinds: type of each edge, from sender to receiver.
    """
    colors = _numbered(labels)
    while True:
        messages = _mixed(colors[senders].astype(np.uint64) * np.uint64(1 << 32) + kinds.astype(np.uint64))
        heard = np.zeros(len(labels), np.uint64)
        np.add.at(heard, receivers, messages)
        refined = _numbered(_mixed(heard) ^ _mixed(colors.astype(np.uint64)))
        if refined.max(initial=0) == colors.max(initial=0):
            return refined, np.bincount(refined)
        colors = refined


def _numbered(values: np.ndarray) -> Int[np.ndarray, " n"]:
    """Integers that number the distinct values in order of appearance."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _mixed(keys: np.ndarray) -> np.ndarray:
    """The splitmix64 hash."""
    with np.errstate(over="ignore"):
        x = keys + _SEED
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
