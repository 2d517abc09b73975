"""The store: relaxation paths of any number of materials in one HDF5 file, or a folder of such files.

Columnar with ragged offsets (`mlip.data.schema`), so that opening reads no per-frame data and frame k costs
one contiguous read a column. Written by `StoreWriter` (`mlip.data.writer`), which is atomic.
"""

import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Int

from mlip.data.records import Frame, Trajectory
from mlip.data.schema import (
    ATOM_COLUMNS,
    FORMAT,
    FORMAT_VERSION,
    FRAME_COLUMNS,
    MATERIAL_COLUMNS,
    MATERIAL_TEXTS,
    NUMBERS,
    OFFSETS,
    SPLITS,
    TEXTS,
    split_code,
)
from mlip.data.shared_files import SharedFile
from mlip.errors import MlipError

MAX_ATOMS_PER_FRAME = 1_000_000
"""A frame that claims more is a damaged or hostile file, not a crystal."""

MAX_CHUNK_BYTES = 1 << 26
"""To read one frame is to decompress one chunk a column; chunks this large would fill the memory."""

BLOCK = 1 << 16
"""Rows of a per-frame column that are read at once when a whole column is gone through."""

WIDE_GAP = 1 << 10
"""Rows of a column that take longer to read than to begin another read."""

BLOCK_FRAMES = 1 << 12
"""Frames whose atoms are read at once."""


@dataclass(frozen=True, slots=True)
class Material:
    """What the store knows of one material."""

    id: str
    formula: str
    functional: str
    dimensionality: int
    properties: Mapping[str, float | str]
    """Scalars that are known for this material."""
    split: str
    """'train', 'val' or 'test'."""
    frames: range
    """Its frames' indices in the store."""


class Store:
    """A store opened for reading: random access to frames and materials.

    Opening costs O(1) in the number of frames. Objects can be pickled and survive a fork (they reopen the
    files), and may be read from several threads.

    Args:
        path: a store file, or a folder whose `*.h5` files (sorted by name) are read as one store.
        more: further ones, whose frames and materials follow.

    Raises:
        MlipError: no such path, not a store, truncated, or written by a newer version.
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
        """Format version, units and signs, build settings and counts; of a folder: {file name: ...}."""
        if self.path.is_dir() or self._more:
            return {shard.path.name: shard.metadata for shard in self.shards}
        return self.shards[0].metadata

    def frame(self, k: int) -> Frame:
        """Frame k; labels that are missing altogether are None, single missing values NaN.

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

    def trajectories(self) -> Iterator[Trajectory]:
        """All materials in order with their frames, as `StoreWriter.add` takes them."""
        for m in self.materials():
            frames = [self.frame(k) for k in m.frames]
            yield Trajectory(m.id, frames, m.functional, m.dimensionality, m.properties)

    def indices(self, split: str | None = None, functional: str | None = None) -> Int[np.ndarray, " k"]:
        """Indices of the frames of a split ('train', 'val', 'test') and of a functional, or of all frames; int64,
        ascending."""
        if split is functional is None:
            return np.arange(self.n_frames, dtype=np.int64)
        chosen = _Choice(split, functional)
        found = [
            first + start + np.flatnonzero(chosen.frames(shard, start, min(start + BLOCK, shard.n_frames)))
            for shard, first in zip(self.shards, self._frame_starts, strict=False)
            for start in range(0, shard.n_frames, BLOCK)
        ]
        return np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)

    def n_atoms_of(self, indices: Sequence[int] | Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Atoms in each of the given frames, int32. Reads only the parts of the offsets that it needs."""
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= self.n_frames):
            raise IndexError(f"frame index outside 0..{self.n_frames - 1}")
        order = np.argsort(indices, kind="stable")
        ascending = indices[order]
        sizes = np.empty(indices.shape, dtype=np.int32)
        for first, last in self._runs(ascending):
            s, start = self._shard_of(int(ascending[first]), self._frame_starts, "frame")
            local = ascending[first:last] - self._frame_starts[s]
            offsets = self.shards[s].read("frames/atom_offset", slice(start, int(local[-1]) + 2))
            sizes[order[first:last]] = np.diff(offsets)[local - start]
        return sizes

    def _runs(self, ascending: Int[np.ndarray, " k"]) -> Iterator[tuple[int, int]]:
        """Where to cut ascending frame indices for reading: at wide gaps, every `BLOCK` frames, and where a
        new shard begins."""
        if not ascending.size:
            return
        shard = np.searchsorted(self._frame_starts, ascending, side="right")
        is_cut = (np.diff(ascending) > WIDE_GAP) | (np.diff(ascending // BLOCK) > 0) | (np.diff(shard) > 0)
        yield from pairwise([0, *(np.flatnonzero(is_cut) + 1).tolist(), len(ascending)])

    def blocks(
        self, columns: Sequence[str], split: str | None = None, functional: str | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """Go through per-frame and per-atom columns in order, `BLOCK_FRAMES` frames at a time.

        Args:
            columns: paths such as "frames/energy" and "atoms/force".
            split, functional: only the frames of that split and functional, and their atoms.

        Yields:
            The columns by their last name, and "size": the number of atoms of each frame.
        """
        chosen = _Choice(split, functional)
        for shard in self.shards:
            for start in range(0, shard.n_frames, BLOCK_FRAMES):
                block = shard.block(columns, start, min(start + BLOCK_FRAMES, shard.n_frames), chosen)
                if len(block["size"]):
                    yield block

    def _shard_of(self, index: int, starts: list[int], what: str) -> tuple[int, int]:
        if not 0 <= index < starts[-1]:
            raise IndexError(f"{what} {index} of a store with {starts[-1]}")
        s = bisect_right(starts, index) - 1
        return s, int(index) - starts[s]


def shard_paths(path: Path) -> list[Path]:
    """The files of a store: itself, or a folder's `*.h5` sorted by name."""
    if path.is_dir():
        paths = sorted(p for p in path.glob("*.h5") if not p.name.startswith("."))
        if not paths:
            raise MlipError("the folder holds no store (*.h5)", where=str(path), fix="run `mlip data build`")
        return paths
    if not path.exists():
        raise MlipError("no such store", where=str(path), fix="check the path, or run `mlip data build`")
    return [path]


class Shard:
    """One store file, validated on opening; datasets by their path."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._shared = SharedFile(path)
        except OSError as error:
            raise MlipError(
                f"not a readable HDF5 file ({_reason(error)})",
                where=str(path),
                fix="a truncated copy or download? fetch or build it again",
            ) from None
        self.file = self._shared.file
        try:
            self._validate()
        except MlipError:
            self.close()
            raise
        except Exception as error:  # HDF5's faults come as OSError, RuntimeError, KeyError, ...
            self.close()
            raise self.damaged(_reason(error)) from None

    def close(self) -> None:
        self._shared.close()

    def __enter__(self) -> "Shard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _validate(self) -> None:
        if self.file.attrs.get("format") != FORMAT:
            raise MlipError("an HDF5 file, but not an mlip store", where=str(self.path))
        version = int(self.file.attrs.get("format_version", 0))
        if version > FORMAT_VERSION:
            raise MlipError(
                f"store format {version} is newer than format {FORMAT_VERSION}, which this mlip reads",
                where=str(self.path),
                fix="upgrade alexandria-mlip, or build the store again",
            )
        columns = (*FRAME_COLUMNS, *ATOM_COLUMNS, *MATERIAL_COLUMNS, *OFFSETS)
        self._columns = {c.path: self._dataset(c.path, c.dtype, c.shape) for c in columns}
        for name in MATERIAL_TEXTS:
            self._columns[f"materials/{name}"] = self._dataset(f"materials/{name}", "O", ())
        for group, dtype in ((NUMBERS, "f8"), (TEXTS, "O")):
            for key in self.keys(group):
                self._columns[f"{group}/{key}"] = self._dataset(f"{group}/{key}", dtype, ())
        self.n_frames = len(self._columns["frames/energy"])
        self.n_atoms = len(self._columns["atoms/number"])
        self.n_materials = len(self._columns["materials/id"])
        expected = {"frames": self.n_frames, "atoms": self.n_atoms, "materials": self.n_materials}
        for path, dataset in self._columns.items():
            rows = expected[path.split("/")[0]] + path.endswith("_offset")
            if len(dataset) != rows:
                raise self.damaged(f"column {path} has {len(dataset)} rows, not {rows}")

    def keys(self, group: str) -> list[str]:
        """Names of the scalar properties in a group (`NUMBERS` or `TEXTS`)."""
        if not isinstance(self.file.get(group), h5py.Group):
            raise self.damaged(f"group {group} is missing")
        return list(self.file[group])

    def _dataset(self, path: str, dtype: str, shape: tuple[int, ...]) -> h5py.Dataset:
        # Links and external storage could point a foreign file at other files of this machine.
        link = self.file.get(path, getlink=True)
        dataset = self.file[path] if isinstance(link, h5py.HardLink) else None
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
            raise self.damaged(f"column {path} is missing")
        if dataset.dtype != np.dtype(dtype) or dataset.ndim != 1 + len(shape) or dataset.shape[1:] != shape:
            raise self.damaged(f"column {path} is {dataset.dtype}{list(dataset.shape)}")
        if dataset.chunks and np.prod(dataset.chunks) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
            raise self.damaged(f"column {path} has chunks of {dataset.chunks} rows")
        return dataset.asstr() if dtype == "O" else dataset

    def damaged(self, what: str) -> MlipError:
        return MlipError(f"damaged store: {what}", where=str(self.path), fix="build or copy it again")

    def __getitem__(self, path: str) -> h5py.Dataset:
        return self._columns[path]

    @property
    def metadata(self) -> dict[str, Any]:
        try:
            return json.loads(self.file["metadata"].asstr()[()])
        except (KeyError, ValueError, OSError) as error:
            raise self.damaged(f"its metadata cannot be read ({_reason(error)})") from None

    def read(self, path: str, rows: int | slice) -> Any:
        """Rows of a column; what HDF5's checksums find damaged is an MlipError."""
        try:
            return self._columns[path][rows]
        except (OSError, RuntimeError, ValueError) as error:
            raise self.damaged(f"column {path} cannot be read ({_reason(error)})") from None

    def frame(self, k: int) -> Frame:
        start, stop = self.read("frames/atom_offset", slice(k, k + 2)).tolist()
        if not 0 <= start <= stop <= self.n_atoms or stop - start > MAX_ATOMS_PER_FRAME:
            raise self.damaged(f"frame {k} claims atoms {start} to {stop} of {self.n_atoms}")
        atoms = slice(start, stop)
        return Frame(
            numbers=self.read("atoms/number", atoms).astype(np.int16),
            positions=self.read("atoms/position", atoms),
            cell=self.read("frames/cell", k),
            pbc=self.read("frames/pbc", k).astype(bool),
            energy=float(self.read("frames/energy", k)),
            forces=_known(self.read("atoms/force", atoms)),
            stress=_known(self.read("frames/stress", k)),
            magmoms=_known(self.read("atoms/magmom", atoms)),
            calculation=int(self.read("frames/calculation", k)),
            ionic_step=int(self.read("frames/ionic_step", k)),
        )

    def block(self, columns: Sequence[str], start: int, stop: int, chosen: "_Choice") -> dict[str, np.ndarray]:
        """Columns of those frames start..stop - 1 that are chosen, and their sizes."""
        offsets = self.read("frames/atom_offset", slice(start, stop + 1))
        size = np.diff(offsets)
        if (size < 0).any() or not 0 <= offsets[0] <= offsets[-1] <= self.n_atoms:
            raise self.damaged(f"the atom offsets of frames {start} to {stop} are not ascending")
        block = {"size": size}
        for path in columns:
            rows = slice(start, stop) if path.startswith("frames/") else slice(offsets[0], offsets[-1])
            block[path.split("/")[1]] = self.read(path, rows)
        if chosen.is_all:
            return block
        inside = chosen.frames(self, start, stop)
        atoms_inside = np.repeat(inside, size)
        masks = {path.split("/")[1]: atoms_inside for path in columns if path.startswith("atoms/")}
        return {name: values[masks.get(name, inside)] for name, values in block.items()}

    def material(self, m: int, first_frame: int) -> Material:
        return next(self._materials(m, m + 1, first_frame))

    def materials(self, first_frame: int) -> Iterator[Material]:
        for start in range(0, self.n_materials, BLOCK):
            yield from self._materials(start, min(start + BLOCK, self.n_materials), first_frame)

    def _materials(self, start: int, stop: int, first_frame: int) -> Iterator[Material]:
        rows = slice(start, stop)
        texts = {name: self.read(f"materials/{name}", rows) for name in MATERIAL_TEXTS}
        dimensionality = self.read("materials/dimensionality", rows)
        split = self.read("materials/split", rows)
        if (split >= len(SPLITS)).any():
            raise self.damaged("column materials/split has a value that is no split")
        offsets = self.read("materials/frame_offset", slice(start, stop + 1)) + first_frame
        numbers = {key: self.read(f"{NUMBERS}/{key}", rows) for key in self.keys(NUMBERS)}
        words = {key: self.read(f"{TEXTS}/{key}", rows) for key in self.keys(TEXTS)}
        for i in range(stop - start):
            properties = {key: float(column[i]) for key, column in numbers.items() if not np.isnan(column[i])}
            properties |= {key: column[i] for key, column in words.items() if column[i]}
            yield Material(
                **{name: column[i] for name, column in texts.items()},
                dimensionality=int(dimensionality[i]),
                properties=properties,
                split=SPLITS[split[i]],
                frames=range(int(offsets[i]), int(offsets[i + 1])),
            )


class _Choice:
    """Frames of a split and of a functional; None = of any."""

    def __init__(self, split: str | None, functional: str | None):
        self.is_all = split is functional is None
        self._split = None if split is None else split_code(split)
        self._functional = functional
        self._materials: dict[Path, np.ndarray] = {}

    def frames(self, shard: Shard, start: int, stop: int) -> Bool[np.ndarray, " k"]:
        """Which of the shard's frames start..stop - 1 these are."""
        inside = np.ones(stop - start, dtype=bool)
        if self._split is not None:
            inside &= shard.read("frames/split", slice(start, stop)) == self._split
        if self._functional is not None:
            if shard.path not in self._materials:
                self._materials[shard.path] = shard.read("materials/functional", slice(None)) == self._functional
            inside &= self._materials[shard.path][shard.read("frames/material", slice(start, stop))]
        return inside


def _known(label: np.ndarray) -> np.ndarray | None:
    """A label, or None when nothing of it is known."""
    return None if np.isnan(label).all() else label


def _reason(error: Exception) -> str:
    """HDF5's message without its boilerplate."""
    text = str(error)
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text else text
