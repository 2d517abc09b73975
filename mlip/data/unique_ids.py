"""Ids that occur twice: results that are looked up by id find only one of the two materials.

An id belongs to a functional: one material computed with two functionals is two materials of a store, with one id.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from mlip.data.shard import BLOCK, Shard

NameOfSource = Callable[[int], str]
"""Function that names the source of a material, given the material's index in its shard."""


class RepeatedId(NamedTuple):
    """An id that two materials of one functional have."""

    material_id: str
    functional: str
    first: str
    """Source of the first material."""
    second: str
    """Source of the second material."""


def repeated_ids(shards: list[tuple[Shard, NameOfSource]]) -> list[RepeatedId]:
    """Each material whose id and functional an earlier one has. The pass streams; memory holds 8 bytes per material."""
    digests = [np.fromiter(map(_digest, _keys(shard)), np.uint64, shard.n_materials) for shard, _ in shards]
    values, counts = np.unique(np.concatenate(digests), return_counts=True)
    suspicious = set(values[counts > 1].tolist())
    if not suspicious:
        return []
    seen: dict[tuple[str, str], str] = {}
    found = []
    for (shard, name_of), of_shard in zip(shards, digests, strict=True):
        for place, key in enumerate(_keys(shard)):
            if int(of_shard[place]) not in suspicious:
                continue
            if key in seen:
                found.append(RepeatedId(*key, seen[key], name_of(place)))
            seen.setdefault(key, name_of(place))
    return found


def _keys(shard: Shard) -> Iterator[tuple[str, str]]:
    """Id and functional of each material."""
    for start in range(0, shard.n_materials, BLOCK):
        rows = slice(start, min(start + BLOCK, shard.n_materials))
        ids, functionals = (shard.read(f"materials/{name}", rows) for name in ("id", "functional"))
        yield from zip(map(str, ids), map(str, functionals), strict=True)


def _digest(key: tuple[str, str]) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(key).encode(), digest_size=8).digest(), "big")
