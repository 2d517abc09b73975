"""One file of a store: validated on opening, its columns read in runs of rows.

What HDF5 or a checksum finds damaged is an `MlipError` that names the file.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Int

from mlip.data.ragged import rows_from
from mlip.data.records import Frame
from mlip.data.schema import (
    AMOUNT,
    ATOM_COLUMNS,
    CURVATURE,
    DIRECTION,
    END_REMOVED,
    FORMAT,
    FORMAT_VERSION,
    FRAME_COLUMNS,
    MATERIAL_COLUMNS,
    MATERIAL_TEXTS,
    NO_STRUCTURE,
    NUMBERS,
    OFFSETS,
    OPTIONAL_COLUMNS,
    SPLITS,
    TEXTS,
    Column,
    split_code,
)
from mlip.data.shared_files import SharedFile
from mlip.errors import MlipError

MAX_ATOMS_PER_FRAME = 1_000_000
"""A frame that claims more is a damaged or hostile file, not a crystal."""

MAX_CHUNK_BYTES = 1 << 26
"""To read one frame is to decompress one chunk a column; chunks this large would fill the memory."""

GAP_BYTES = 1 << 13
"""Bytes of a column that take longer to read than to begin another read."""

RUN_BYTES = 1 << 22
"""Bytes of a column, about, that are read at once."""

_MAX_SLOTS = 1 << 16
"""Slots of a column's chunks in memory; each takes 8 bytes."""

_FIRST_OUT = 0.75
"""HDF5's default preference for chunks that have been read to the end, where room is needed."""

BLOCK = 1 << 16
"""Rows of a per-frame column that are read at once when a whole column is gone through."""


@dataclass(frozen=True, slots=True)
class Material:
    """A material in a store."""

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

    @property
    def has_structure(self) -> bool:
        """Whether more than the composition is known."""
        return self.dimensionality != NO_STRUCTURE

    @property
    def relaxed(self) -> int | None:
        """Index of the frame that is its relaxed structure (or composition), the end of its path; None if
        `why_not_relaxed` says why there is none."""
        return self.frames[-1] if self.why_not_relaxed is None else None

    @property
    def why_not_relaxed(self) -> str | None:
        """Why no frame is its relaxed structure; None if one is."""
        if END_REMOVED in self.properties:
            return "their relaxed structure was removed (an outlier, or without labels)"
        return None if self.frames else "they have no frame"


_SUFFIXES = (".h5", ".hdf5")


def is_store_file(path: Path) -> bool:
    """Whether a path is called as the file of a store is, `*.h5` or `*.hdf5`."""
    return path.suffix.lower() in _SUFFIXES


def is_store(path: Path) -> bool:
    """Whether `path` is called as what `mlip data build` writes: such a file, or a folder that holds some."""
    return bool(_in_folder(path)) if path.is_dir() else is_store_file(path)


def _in_folder(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_store_file(path) and not path.name.startswith("."))


def shard_paths(path: Path) -> list[Path]:
    """The files of a store: itself, or those of a folder sorted by name."""
    if path.is_dir():
        paths = _in_folder(path)
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
        self.optional = tuple(column for column in OPTIONAL_COLUMNS if column.path in self.file)
        """Columns that it has beside those that every store has."""
        columns = (*columns, *self.optional)
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

    @property
    def has_amounts(self) -> bool:
        """Whether there are materials of which the composition alone is known."""
        return AMOUNT in self.optional

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
        if dataset.chunks and dataset.chunks[1:] != shape:
            raise self.damaged(f"column {path} has chunks of parts of rows")
        if dataset.chunks and np.prod(dataset.chunks) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
            raise self.damaged(f"column {path} has chunks of {dataset.chunks} rows")
        return dataset.asstr() if dtype == "O" else dataset

    @property
    def unpacked_bytes(self) -> int:
        """Unpacked size of all columns of frames and atoms, bytes."""
        return sum(_unpacked_bytes(self._columns[column.path]) for column in (*FRAME_COLUMNS, *ATOM_COLUMNS))

    def keep_in_memory(self) -> None:
        """Keep all of the columns of frames and atoms that is read: then it is unpacked once. Of other columns HDF5
        keeps the last few chunks."""
        for column in (*FRAME_COLUMNS, *ATOM_COLUMNS):
            dataset = self._columns.pop(column.path)
            access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
            if dataset.chunks is not None:
                n_chunks = -(-len(dataset) // dataset.chunks[0])
                access.set_chunk_cache(min(max(n_chunks, 1), _MAX_SLOTS), _unpacked_bytes(dataset), _FIRST_OUT)
            del dataset  # or the one that is opened next would share its cache
            self._columns[column.path] = h5py.Dataset(h5py.h5d.open(self.file.id, column.path.encode(), access))

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

    @property
    def checksums(self) -> str:
        """JSON: the checksum of each column and of the metadata."""
        try:
            return self.file["checksums"].asstr()[()]
        except (KeyError, ValueError, OSError) as error:
            raise self.damaged(f"its checksums cannot be read ({_reason(error)})") from None

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
            amounts=self._read_optional(AMOUNT, atoms),
            direction=self._read_optional(DIRECTION, atoms),
            curvature=self._read_optional(CURVATURE, atoms),
        )

    def _read_optional(self, column: Column, atoms: slice) -> np.ndarray | None:
        return _known(self.read(column.path, atoms)) if column in self.optional else None

    def gather(self, columns: Sequence[str], frames: Int[np.ndarray, " k"]) -> dict[str, np.ndarray]:
        """Columns of the frames, which ascend, by their last name, and "size": the number of atoms of each frame."""
        first, stop = self._atoms_of(frames)
        gathered = {"size": stop - first}
        for path in columns:
            rows = (frames, frames + 1) if path.startswith("frames/") else (first, stop)
            lacking = [c for c in OPTIONAL_COLUMNS if c.path == path and c not in self.optional]
            gathered[path.split("/")[1]] = (
                np.full(((stop - first).sum(), *lacking[0].shape), np.nan) if lacking else self._runs(path, *rows)
            )
        return gathered

    def n_atoms_of(self, frames: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Number of atoms of each of the frames, which ascend."""
        first, stop = self._atoms_of(frames)
        return stop - first

    def _atoms_of(self, frames: Int[np.ndarray, " k"]) -> tuple[np.ndarray, np.ndarray]:
        """The first atom of each frame and the one after its last."""
        first, stop = self._runs("frames/atom_offset", frames, frames + 2).reshape(-1, 2).T
        inside = (first >= 0) & (first <= stop) & (stop <= self.n_atoms)
        disjoint = (first[1:] >= stop[:-1]) | (np.diff(frames) == 0)
        if not (inside.all() and disjoint.all()):
            raise self.damaged(f"the atom offsets of frames {frames[0]} to {frames[-1]} are not ascending")
        sizes = stop - first
        if sizes.max(initial=0) > MAX_ATOMS_PER_FRAME:
            raise self.damaged(f"frame {frames[sizes.argmax()]} claims {sizes.max()} atoms")
        return first, stop

    def _runs(self, path: str, first: Int[np.ndarray, " k"], stop: Int[np.ndarray, " k"]) -> np.ndarray:
        """The rows first[0]..stop[0] - 1 of a column, then those from first[1] on, and so forth; `first` and `stop`
        ascend. What lies near each other is read at once."""
        dataset = self._columns[path]
        if not len(first):
            return self.read(path, slice(0, 0))
        row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
        is_cut = (first[1:] - stop[:-1] > GAP_BYTES // row_bytes) | (np.diff(stop // (RUN_BYTES // row_bytes)) > 0)
        cuts = [0, *(np.flatnonzero(is_cut) + 1).tolist(), len(first)]
        found = []
        for begin, end in pairwise(cuts):
            begins, ends = first[begin:end], stop[begin:end]
            rows = self.read(path, slice(begins[0], ends[-1]))
            is_all = len(begins) == 1 or (begins[1:] == ends[:-1]).all()
            found.append(rows if is_all else rows[rows_from(begins - begins[0], ends - begins)])
        return np.concatenate(found)

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


class Choice:
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


def _unpacked_bytes(dataset: h5py.Dataset) -> int:
    """Unpacked size of whole chunks, bytes."""
    if dataset.chunks is None:
        return 0
    return -(-len(dataset) // dataset.chunks[0]) * int(np.prod(dataset.chunks)) * dataset.dtype.itemsize


def _known(label: np.ndarray) -> np.ndarray | None:
    """A label, or None when nothing of it is known."""
    return None if np.isnan(label).all() else label


def _reason(error: Exception) -> str:
    """HDF5's message without its boilerplate."""
    text = str(error)
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text else text
