"""One file of a store: validated on opening, with columns that are read in runs of rows.

Damage that HDF5 or a checksum finds raises an `MlipError` that names the file.
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
"""Largest number of atoms in a frame; a frame that claims more means a damaged or hostile file."""

MAX_CHUNK_BYTES = 1 << 26
"""Largest chunk, bytes. Reading one frame decompresses one chunk per column, and larger chunks could fill the
memory."""

GAP_BYTES = 1 << 13
"""Gap in a column, bytes, above which another read is faster than reading across it."""

RUN_BYTES = 1 << 22
"""Approximate number of bytes of a column that are read at once."""

_MAX_SLOTS = 1 << 16
"""Largest number of slots in a column's chunk cache; each takes 8 bytes."""

_FIRST_OUT = 0.75
"""HDF5's default preference for evicting chunks that have been read to the end."""

BLOCK = 1 << 16
"""Rows of a per-frame column that are read at once in a pass over the whole column."""


@dataclass(frozen=True, slots=True)
class Material:
    """A material in a store."""

    id: str
    formula: str
    functional: str
    dimensionality: int
    properties: Mapping[str, float | str]
    """Scalar properties that are known for this material."""
    split: str
    """'train', 'val' or 'test'."""
    frames: range
    """Indices of its frames in the store."""

    @property
    def has_structure(self) -> bool:
        """Whether more than the composition is known."""
        return self.dimensionality != NO_STRUCTURE

    @property
    def relaxed(self) -> int | None:
        """Index of the frame with the relaxed structure (or composition), the end of the path; None if there is none,
        for the reason in `why_not_relaxed`."""
        return self.frames[-1] if self.why_not_relaxed is None else None

    @property
    def why_not_relaxed(self) -> str | None:
        """Reason why no frame is the relaxed structure; None if one is."""
        if END_REMOVED in self.properties:
            return "their relaxed structure was removed (an outlier, or without labels)"
        return None if self.frames else "they have no frame"


_SUFFIXES = (".h5", ".hdf5")


def is_store_file(path: Path) -> bool:
    """Whether a path is named like the file of a store, `*.h5` or `*.hdf5`."""
    return path.suffix.lower() in _SUFFIXES


def is_store(path: Path) -> bool:
    """Whether `path` is named like a result of `mlip data build`: a store file, or a folder that contains some."""
    return bool(_in_folder(path)) if path.is_dir() else is_store_file(path)


def _in_folder(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_store_file(path) and not path.name.startswith("."))


def shard_paths(path: Path) -> list[Path]:
    """Files of a store: the file itself, or those of a folder sorted by name. Raises MlipError if there are none."""
    if path.is_dir():
        paths = _in_folder(path)
        if not paths:
            raise MlipError("the folder holds no store (*.h5)", where=str(path), fix="run `mlip data build`")
        return paths
    if not path.exists():
        raise MlipError("no such store", where=str(path), fix="check the path, or run `mlip data build`")
    return [path]


class Shard:
    """One open store file, validated on opening; its datasets are indexed by path."""

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
        """Optional columns that the file has."""
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
        """Whether there are materials of which only the composition is known."""
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
        """Uncompressed size of all columns of frames and atoms, bytes."""
        return sum(_unpacked_bytes(self._columns[column.path]) for column in (*FRAME_COLUMNS, *ATOM_COLUMNS))

    def keep_in_memory(self) -> None:
        """Cache all that is read from the columns of frames and atoms, so that it is decompressed once. For other
        columns, HDF5 caches the last few chunks."""
        for column in (*FRAME_COLUMNS, *ATOM_COLUMNS):
            dataset = self._columns.pop(column.path)
            access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
            if dataset.chunks is not None:
                n_chunks = -(-len(dataset) // dataset.chunks[0])
                access.set_chunk_cache(min(max(n_chunks, 1), _MAX_SLOTS), _unpacked_bytes(dataset), _FIRST_OUT)
            del dataset  # otherwise the dataset opened next would share its cache
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
        """Checksums of all columns and of the metadata, as JSON."""
        try:
            return self.file["checksums"].asstr()[()]
        except (KeyError, ValueError, OSError) as error:
            raise self.damaged(f"its checksums cannot be read ({_reason(error)})") from None

    def read(self, path: str, rows: int | slice) -> Any:
        """Rows of a column. Raises MlipError if HDF5's checksums find damage."""
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
        """Columns of the given frames (ascending) by the last part of their path, and "size": the atoms in each
        frame."""
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
        """Number of atoms in each of the given frames, which ascend."""
        first, stop = self._atoms_of(frames)
        return stop - first

    def _atoms_of(self, frames: Int[np.ndarray, " k"]) -> tuple[np.ndarray, np.ndarray]:
        """Index of each frame's first atom, and of the one after its last atom."""
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
        """Rows first[0] to stop[0] - 1 of a column, then first[1] to stop[1] - 1, and so on; `first` and `stop` ascend.
        Nearby rows are read at once."""
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
    """Selection of the frames of a split and of a functional; None selects any."""

    def __init__(self, split: str | None, functional: str | None):
        self.is_all = split is functional is None
        self._split = None if split is None else split_code(split)
        self._functional = functional
        self._materials: dict[Path, np.ndarray] = {}

    def frames(self, shard: Shard, start: int, stop: int) -> Bool[np.ndarray, " k"]:
        """Mask of the selected frames among the shard's frames start to stop - 1."""
        inside = np.ones(stop - start, dtype=bool)
        if self._split is not None:
            inside &= shard.read("frames/split", slice(start, stop)) == self._split
        if self._functional is not None:
            if shard.path not in self._materials:
                self._materials[shard.path] = shard.read("materials/functional", slice(None)) == self._functional
            inside &= self._materials[shard.path][shard.read("frames/material", slice(start, stop))]
        return inside


def _unpacked_bytes(dataset: h5py.Dataset) -> int:
    """Uncompressed size of a dataset's chunks, bytes."""
    if dataset.chunks is None:
        return 0
    return -(-len(dataset) // dataset.chunks[0]) * int(np.prod(dataset.chunks)) * dataset.dtype.itemsize


def _known(label: np.ndarray) -> np.ndarray | None:
    """The label, or None if all of it is NaN."""
    return None if np.isnan(label).all() else label


def _reason(error: Exception) -> str:
    """HDF5's error message without its boilerplate."""
    text = str(error)
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text else text
