"""Check that a store is as it was written.

The file is compared with its checksum. If it differs, every column is compared with its own checksum, to name what was
altered. If it agrees, the columns are checked against one another, because a writer may err.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from mlip.data.schema import AMOUNT, FILE_CHECKSUM_BYTES, SPLITS, Checksum, file_checksum
from mlip.data.store import BLOCK, Shard, shard_paths
from mlip.data.unique_ids import repeated_ids
from mlip.errors import MlipError

_MOST_IDS = 10
"""Largest number of repeated ids that are reported."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a store file."""

    file: str
    column: str
    what: str


OnColumn = Callable[[str], None]
"""Function that receives the name of each column before it is read."""


def find_problems(path: Path, on_column: OnColumn | None = None) -> Iterator[Problem]:
    """Faults of a store (a file, or a folder of shards), as an iterator; none if it is sound.

    Raises:
        MlipError: there is no such store.
    """
    is_sound = True
    for file in shard_paths(path):
        for problem in _problems_of(file, on_column):
            is_sound = False
            yield problem
    if is_sound:
        yield from _repeated_ids(path)


def _problems_of(file: Path, on_column: OnColumn | None) -> Iterator[Problem]:
    try:
        shard = Shard(file)
    except MlipError as error:
        yield Problem(str(file), "", error.what)
        return
    with shard:
        if _is_as_written(file):
            yield from _contradictions(shard)
        else:
            elsewhere = Problem(str(file), "", "was altered, though in no column")
            yield from list(_altered_columns(shard, on_column)) or [elsewhere]


def _repeated_ids(path: Path) -> Iterator[Problem]:
    """Materials with the id and functional of another one, for which results that are looked up by id are ambiguous."""
    with ExitStack() as stack:
        shards = [stack.enter_context(Shard(file)) for file in shard_paths(path)]
        named = [(shard, lambda place, shard=shard: f"{shard.path}, material {place}") for shard in shards]
        for one in repeated_ids(named)[:_MOST_IDS]:
            what = f"{one.material_id!r} ({one.functional}) occurs twice: in {one.first} and in {one.second}"
            yield Problem(one.second.rpartition(",")[0], "materials/id", what)


def _is_as_written(file: Path) -> bool:
    with file.open("rb") as stream:
        recorded = stream.read(FILE_CHECKSUM_BYTES)
    return recorded == file_checksum(file)


def _altered_columns(shard: Shard, on_column: OnColumn | None) -> Iterator[Problem]:
    try:
        recorded = json.loads(shard.file["checksums"].asstr()[()])
    except (KeyError, ValueError, OSError):
        yield Problem(str(shard.path), "checksums", "cannot be read")
        return
    for column in sorted(recorded):
        if on_column:
            on_column(column)
        try:
            matches = _checksum(shard.file[column]) == recorded[column]
        except (KeyError, OSError, UnicodeDecodeError) as error:
            yield Problem(str(shard.path), column, f"cannot be read ({error})")
            continue
        if not matches:
            yield Problem(str(shard.path), column, "was altered: it does not have the checksum it was written with")


def _checksum(dataset: h5py.Dataset) -> str:
    checksum = Checksum()
    is_text = dataset.dtype == object
    if dataset.ndim == 0:
        checksum.update([dataset.asstr()[()]])
    else:
        for start in range(0, len(dataset), BLOCK):
            rows = slice(start, start + BLOCK)
            checksum.update(list(dataset.asstr()[rows]) if is_text else dataset[rows])
    return checksum.hexdigest()


def _contradictions(shard: Shard) -> Iterator[Problem]:
    """Faults of a file that is as it was written, but was written wrong, by another program for instance."""
    for column, n_owned in (("frames/atom_offset", shard.n_atoms), ("materials/frame_offset", shard.n_frames)):
        if not _are_offsets(shard[column], n_owned):
            yield Problem(str(shard.path), column, f"does not ascend from 0 to {n_owned}")
    for column, low, high in (
        ("frames/material", 0, shard.n_materials - 1),
        ("frames/split", 0, len(SPLITS) - 1),
        ("materials/split", 0, len(SPLITS) - 1),
        ("materials/dimensionality", 0 if shard.has_amounts else 1, 3),
        ("atoms/number", 1, 118),
    ):
        if not _is_within(shard[column], low, high):
            yield Problem(str(shard.path), column, f"has values outside {low}..{high}")
    for column in ("frames/cell", "atoms/position"):
        if not _is_finite(shard, column):
            yield Problem(str(shard.path), column, "has values that are not finite")
    optional = (column.path for column in shard.optional)
    for column in ("frames/energy", "frames/stress", "atoms/force", "atoms/magmom", *optional):  # NaN = missing
        if any(np.isinf(block).any() for block in _blocks(shard[column])):
            yield Problem(str(shard.path), column, "has infinite values")


def _blocks(dataset: h5py.Dataset, overlap: int = 0) -> Iterator[np.ndarray]:
    for start in range(0, len(dataset), BLOCK):
        yield dataset[start : start + BLOCK + overlap]


def _are_offsets(dataset: h5py.Dataset, n_owned: int) -> bool:
    return (
        dataset[0] == 0
        and dataset[-1] == n_owned
        and all((np.diff(block) >= 0).all() for block in _blocks(dataset, overlap=1))
    )


def _is_within(dataset: h5py.Dataset, low: int, high: int) -> bool:
    return all(((block >= low) & (block <= high)).all() for block in _blocks(dataset))


def _is_finite(shard: Shard, column: str) -> bool:
    """Whether all values are finite. Sites of a composition without a structure have no position and are not tested."""
    dataset = shard[column]
    for start in range(0, len(dataset), BLOCK):
        rows = slice(start, start + BLOCK)
        are_fine = np.isfinite(dataset[rows]).reshape(len(dataset[rows]), -1).all(axis=1)
        if column == "atoms/position" and shard.has_amounts:
            are_fine |= shard[AMOUNT.path][rows] > 0
        if not are_fine.all():
            return False
    return True
