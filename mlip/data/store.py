"""The store: relaxation paths of any number of materials in one HDF5 file, or in a folder of such files.

The store is columnar with ragged offsets (`mlip.data.schema`): opening it reads no per-frame data, and frame k costs
one contiguous read per column. `StoreWriter` (`mlip.data.writer`) writes it atomically.
"""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mlip.data.ragged import rows_of
from mlip.data.records import Frame, Trajectory
from mlip.data.shard import BLOCK, Choice, Material, Shard, shard_paths

BLOCK_FRAMES = 1 << 12
"""Number of frames whose atoms are read at once."""

KEPT_BYTES = 1 << 27
"""Uncompressed size, bytes, up to which a store is cached, as far as it is read, by each process that reads it. Random
frames are then read several times as fast."""


class Store:
    """A store opened for reading: random access to frames and materials.

    Opening costs O(1) in the number of frames. Objects can be pickled and survive a fork (they reopen the
    files), and may be read from several threads.

    Args:
        path: a store file, or a folder whose `*.h5` and `*.hdf5` files (sorted by name) are read as one store.
        more: further stores, whose frames and materials follow.

    Raises:
        MlipError: the path does not exist, is not a store, is truncated, or was written by a newer version.
    """

    def __init__(self, path: str | os.PathLike[str], *more: str | os.PathLike[str]):
        self.path, self._more = Path(path), tuple(map(Path, more))
        self._open()
        self._frame_starts = [0, *accumulate(shard.n_frames for shard in self._shards)]
        self._material_starts = [0, *accumulate(shard.n_materials for shard in self._shards)]
        self.n_frames: int = self._frame_starts[-1]
        self.n_materials: int = self._material_starts[-1]
        self.n_atoms: int = sum(shard.n_atoms for shard in self._shards)

    def _open(self) -> None:
        self._shards = [Shard(file) for path in (self.path, *self._more) for file in shard_paths(path)]
        if sum(shard.unpacked_bytes for shard in self._shards) <= KEPT_BYTES:
            for shard in self._shards:
                shard.keep_in_memory()
        self._pid = os.getpid()

    def close(self) -> None:
        for shard in self._shards:
            shard.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": (self.path, *self._more)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state["paths"])

    def __len__(self) -> int:
        return self.n_frames

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}: {self.n_frames:,} frames of {self.n_materials:,} materials)"

    @property
    def shards(self) -> list["Shard"]:
        """The open files. HDF5 handles must not cross a fork, so a child process opens its own."""
        if self._pid != os.getpid():
            self._open()
        return self._shards

    @property
    def metadata(self) -> dict[str, Any]:
        """Format version, units and signs, build settings and counts; for a folder by file name, for several stores by
        path."""
        if self._more:
            return {str(shard.path): shard.metadata for shard in self.shards}
        if self.path.is_dir():
            return {shard.path.name: shard.metadata for shard in self.shards}
        return self.shards[0].metadata

    @property
    def content_sha256(self) -> str:
        """Checksum of the store's columns and metadata; names and places of its files have no effect.

        Raises:
            MlipError: a file's record of checksums cannot be read.
        """
        content = hashlib.sha256()
        for shard in self.shards:
            content.update(shard.checksums.encode())
        return content.hexdigest()

    def frame(self, k: int) -> Frame:
        """Frame k; a label that is missing entirely is None, single missing values are NaN.

        Raises:
            IndexError: k is not in 0..n_frames - 1.
            MlipError: the file is damaged at this frame.
        """
        s, local = self._shard_of(k, self._frame_starts, "frame")
        return self.shards[s].frame(local)

    def material_of(self, k: int) -> int:
        """Index of the material that frame k belongs to."""
        s, local = self._shard_of(k, self._frame_starts, "frame")
        return self._material_starts[s] + int(self.shards[s].read("frames/material", local))

    def material(self, m: int) -> Material:
        """Material m; its id may occur again where sources repeat it."""
        s, local = self._shard_of(m, self._material_starts, "material")
        return self.shards[s].material(local, first_frame=self._frame_starts[s])

    def materials(self) -> Iterator[Material]:
        """All materials in order, read in blocks."""
        for shard, first_frame in zip(self.shards, self._frame_starts, strict=False):
            yield from shard.materials(first_frame)

    def relaxed_frame(self, material: Material) -> Frame | None:
        """Relaxed structure of a material of this store; None if there is none, for the reason in
        `material.why_not_relaxed`.

        A path may have lost its end, and its last frame is then not relaxed. Use this method instead of the last frame.
        """
        return None if material.relaxed is None else self.frame(material.relaxed)

    def trajectories(self) -> Iterator[Trajectory]:
        """All materials in order with their frames, in the form that `StoreWriter.add` takes."""
        for m in self.materials():
            frames = [self.frame(k) for k in m.frames]
            yield Trajectory(m.id, frames, m.functional, m.dimensionality, m.properties)

    def indices(self, split: str | None = None, functional: str | None = None) -> Int[np.ndarray, " k"]:
        """Indices of the frames of a split ('train', 'val', 'test') and of a functional, None for any; int64,
        ascending."""
        if split is functional is None:
            return np.arange(self.n_frames, dtype=np.int64)
        chosen = Choice(split, functional)
        found = [
            first + start + np.flatnonzero(chosen.frames(shard, start, min(start + BLOCK, shard.n_frames)))
            for shard, first in zip(self.shards, self._frame_starts, strict=False)
            for start in range(0, shard.n_frames, BLOCK)
        ]
        return np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)

    def n_atoms_of(self, indices: Sequence[int] | Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Number of atoms in each of the given frames, int32. Reads only the parts of the offsets that it needs.

        Raises:
            IndexError: an index is out of range.
            MlipError: a file is damaged at these frames.
        """
        order, ascending = self._ascending(indices)
        sizes = np.empty(order.shape, dtype=np.int32)
        for s, mine in self._by_shard(ascending):
            sizes[order[mine]] = self.shards[s].n_atoms_of(ascending[mine] - self._frame_starts[s])
        return sizes

    def gather(self, columns: Sequence[str], indices: Int[np.ndarray, " k"]) -> dict[str, np.ndarray]:
        """Per-frame and per-atom columns of the given frames, in the given order; frames may be repeated.

        Frames that lie near each other in the store are read together.

        Args:
            columns: paths such as "frames/energy" and "atoms/force".

        Returns:
            The columns by the last part of their path, and "size": the number of atoms in each frame. "material" counts
            through all shards, as in `Store.material`.

        Raises:
            IndexError: an index is out of range.
            MlipError: a file is damaged at these frames.
        """
        order, ascending = self._ascending(indices)
        parts = []
        for s, mine in self._by_shard(ascending):
            part = self.shards[s].gather(columns, ascending[mine] - self._frame_starts[s])
            if "material" in part:
                part["material"] = part["material"] + self._material_starts[s]
            parts.append(part)
        if not parts:
            return self.shards[0].gather(columns, ascending)
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        rank = np.argsort(order)
        atoms = rows_of(rank, found["size"])
        is_of_atoms = {path.split("/")[1]: path.startswith("atoms/") for path in columns}
        return {name: values[atoms if is_of_atoms.get(name) else rank] for name, values in found.items()}

    def _ascending(self, indices: Sequence[int] | Int[np.ndarray, " k"]) -> tuple[np.ndarray, np.ndarray]:
        """Permutation that sorts frame indices, and the sorted indices."""
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= self.n_frames):
            raise IndexError(f"frame index outside 0..{self.n_frames - 1}")
        order = np.argsort(indices, kind="stable")
        return order, indices[order]

    def _by_shard(self, ascending: Int[np.ndarray, " k"]) -> Iterator[tuple[int, slice]]:
        """Index of each shard that has some of the frames, and their slice in the ascending frame indices."""
        cuts = np.searchsorted(ascending, self._frame_starts)
        for s, (begin, end) in enumerate(pairwise(cuts.tolist())):
            if begin < end:
                yield s, slice(begin, end)

    def blocks(
        self, columns: Sequence[str], split: str | None = None, functional: str | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """Iterate over per-frame and per-atom columns in order, `BLOCK_FRAMES` frames at a time.

        Args:
            columns: paths such as "frames/energy" and "atoms/force".
            split, functional: only frames of this split and functional, and their atoms; None for any.

        Yields:
            The columns by the last part of their path, and "size": the number of atoms in each frame.
        """
        chosen = Choice(split, functional)
        for shard in self.shards:
            for start in range(0, shard.n_frames, BLOCK_FRAMES):
                stop = min(start + BLOCK_FRAMES, shard.n_frames)
                frames = np.arange(start, stop)
                if not chosen.is_all:
                    frames = frames[chosen.frames(shard, start, stop)]
                if len(frames):
                    yield shard.gather(columns, frames)

    def _shard_of(self, index: int, starts: list[int], what: str) -> tuple[int, int]:
        if not 0 <= index < starts[-1]:
            raise IndexError(f"{what} {index} of a store with {starts[-1]}")
        s = bisect_right(starts, index) - 1
        return s, int(index) - starts[s]
