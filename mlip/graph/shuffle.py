"""Shuffling without a table: computes the position of any element in a permutation of 10^8 elements on demand.

A Feistel network permutes the integers below a power of four; results outside the range are permuted again until they
are inside ("cycle walking", Black and Rogaway, CT-RSA 2002).
"""

import numpy as np
from jaxtyping import Int

_ROUNDS = 6

_MIX = np.uint64(0xBF58476D1CE4E5B9)
"""First multiplier of splitmix64."""

_SHIFT = np.uint64(29)


def permuted(places: Int[np.ndarray, " k"], n: int, key: tuple[int, ...]) -> Int[np.ndarray, " k"]:
    """Images of these positions under a pseudo-random permutation of 0..n-1 chosen by the key; int64."""
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    round_keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    out = _feistel(np.asarray(places).astype(np.uint64), half, round_keys)
    while len(outside := np.flatnonzero(out >= n)):
        out[outside] = _feistel(out[outside], half, round_keys)
    return out.astype(np.int64)


def _feistel(values: np.ndarray, half: np.uint64, round_keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in round_keys:
        mixed = (right + key) * _MIX
        mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX
        left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
    return (left << half) | right


def shuffled_blocks(places: Int[np.ndarray, " k"], n: int, block: int, key: tuple[int, ...]) -> Int[np.ndarray, " k"]:
    """Images of these positions under a permutation of blocks whose members stay together in order.

    The remainder after the last whole block stays at the end.
    """
    blocks, within = np.divmod(np.asarray(places, np.int64), block)
    is_whole = blocks < n // block
    blocks[is_whole] = permuted(blocks[is_whole], n // block, key)
    return blocks * block + within
