"""Writing of a store: append trajectories in blocks, checksum every column, and put the file in place in one step.

The file grows under a hidden name in the target's folder. Only when it is complete and on disk does it replace the
target (POSIX rename), so that a killed build leaves the old store or none. Memory holds one block.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula
from jaxtyping import Bool

import mlip
from mlip.data.records import Frame, Trajectory
from mlip.data.schema import (
    AMOUNT,
    ATOM_COLUMNS,
    CURVATURE,
    DIRECTION,
    FILE_CHECKSUM_BYTES,
    FORMAT,
    FORMAT_VERSION,
    FRAME_COLUMNS,
    MATERIAL_COLUMNS,
    MATERIAL_TEXTS,
    NUMBERS,
    OFFSETS,
    OPTIONAL_COLUMNS,
    STRUCTURES_VERSION,
    TEXTS,
    Checksum,
    Column,
    file_checksum,
    split_code,
)
from mlip.data.sink import Sink
from mlip.data.store import BLOCK, Shard
from mlip.errors import MlipError
from mlip.files.output_paths import cannot_write
from mlip.files.whole_file import partial_path, put_in_place, remove_dead_partials
from mlip.units import UNITS

BLOCK_ATOMS = 1 << 17
"""Number of atoms, some 10 MB, that are gathered before they are appended to the file."""

CHUNK_BYTES = 1 << 13
"""Size of an HDF5 chunk before compression, bytes. Reading one frame decompresses one chunk per column, so chunks are
small: at 8 kB, random reading is a quarter slower than from an uncompressed file; at 128 kB it is four times slower,
and the file 2 % smaller."""

FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
"""Filters of the datasets. gzip is used because its output depends only on its input: h5py's lzf compresses with
whatever its hash table holds at the start, so that the same frames sometimes gave different bytes. A frame of random
digits takes 345 bytes with gzip, 380 with lzf, and 469 uncompressed; level 4 saves 1 % more. Zstd also takes 345, and
reads in order 1.8 times as fast, which nobody would notice (gzip: 300,000 frames/s per core), but every reader would
need a plug-in; Blosc2 is no better in chunks as small as these (`benchmarks/store.py`, `benchmarks/results/store.md`).
With Fletcher32, HDF5 refuses an altered chunk whenever it is read, not only when `mlip data check` runs."""


class StoreWriter:
    """Writer of one store file, as a context manager: leaving it normally finishes the file and puts it in place;
    leaving it by an exception removes what was written.

    Args:
        path: the store file; an existing one is replaced at the end.
        settings: how the data were processed (subsampling, outlier rules, split), recorded as metadata.

    Raises:
        MlipError: the folder is not writable, or the disk is full (now or later).
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None):
        self.path = Path(path)
        self.n_frames = self.n_atoms = self.n_materials = 0
        self.metadata: dict[str, Any] = {
            "format": FORMAT,
            "mlip_version": mlip.__version__,
            "units": UNITS,
            "settings": dict(settings or {}),
        }
        self._partial = partial_path(self.path)
        self._open_file()
        self._start_block()

    def _open_file(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_dead_partials(self.path)
            self._sink = Sink(self._partial)
        except OSError as error:
            raise MlipError(
                f"cannot write here ({error.strerror or error})", where=str(self.path.parent), fix="name another place"
            ) from None
        # Format 1.10 has checksums on HDF5's own structures, and one index entry per chunk.
        self._file = h5py.File(self._sink, "w", libver=("v110", "v110"), userblock_size=FILE_CHECKSUM_BYTES)
        self._checksums: dict[str, Checksum] = {}
        for column in (*FRAME_COLUMNS, *ATOM_COLUMNS, *MATERIAL_COLUMNS, *OFFSETS):
            self._create(column.path, np.dtype(column.dtype), column.shape, column.fill)
        for name in MATERIAL_TEXTS:
            self._create(f"materials/{name}", h5py.string_dtype(), (), "")
        for group in (NUMBERS, TEXTS):
            self._file.create_group(group)
        for column in OFFSETS:
            self._append(column.path, np.zeros(1, np.int64))

    def _create(self, path: str, dtype: np.dtype, shape: tuple[int, ...], fill: Any) -> None:
        self._file.create_dataset(
            path,
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(max(1, CHUNK_BYTES // (dtype.itemsize * int(np.prod(shape)))), *shape),
            dtype=dtype,
            fillvalue=fill,
            **({} if dtype.kind == "O" else FILTERS),
        )
        self._checksums[path] = Checksum()

    def _start_block(self) -> None:
        self._frames: list[Frame] = []
        self._frame_split: list[int] = []
        self._frame_material: list[int] = []
        self._materials: list[tuple[Trajectory, int]] = []
        self._block_atoms = 0

    def add(self, trajectory: Trajectory, split: str) -> None:
        """Append a material with its frames to a split: 'train', 'val' or 'test'."""
        if not trajectory.frames:
            raise MlipError("a material without frames cannot be stored", where=trajectory.material_id)
        code = split_code(split)
        self._materials.append((trajectory, code))
        for frame in trajectory.frames:
            self._frames.append(frame)
            self._frame_split.append(code)
            self._frame_material.append(self.n_materials)
        n_atoms = sum(map(len, trajectory.frames))
        self._block_atoms += n_atoms
        self.n_materials += 1
        self.n_frames += len(trajectory.frames)
        self.n_atoms += n_atoms
        if self._block_atoms >= BLOCK_ATOMS:
            self._flush()

    def add_shard(self, shard: Shard) -> None:
        """Append the whole content of a finished store file, column by column."""
        self._flush()
        shifts = {
            "frames/material": self.n_materials,
            "frames/atom_offset": self.n_atoms,
            "materials/frame_offset": self.n_frames,
        }
        for column in (*FRAME_COLUMNS, *ATOM_COLUMNS, *MATERIAL_COLUMNS, *OFFSETS):
            for rows in _blocks(len(shard[column.path]), first=int(column in OFFSETS)):
                self._append(column.path, shard.read(column.path, rows) + shifts.get(column.path, 0))
        for column in self._optional(shard.optional):
            before = self.n_atoms
            for rows in _blocks(shard.n_atoms):
                missing = np.full((rows.stop - rows.start, *column.shape), np.nan)
                values = shard.read(column.path, rows) if column in shard.optional else missing
                self._append_optional(column, values, before)
        for name in MATERIAL_TEXTS:
            for rows in _blocks(shard.n_materials):
                self._append_texts(f"materials/{name}", list(shard.read(f"materials/{name}", rows)))
        for group, kind in ((NUMBERS, Real), (TEXTS, str)):
            self._add_properties(shard, group, kind)
        self._check_disk()
        self.n_frames += shard.n_frames
        self.n_atoms += shard.n_atoms
        self.n_materials += shard.n_materials

    def add_materials(self, shard: Shard, are_chosen: Bool[np.ndarray, " m"]) -> None:
        """Append some materials of a finished store file, column by column. Memory holds a flag for each frame and
        atom."""
        self._flush()
        frames_of = np.diff(shard.read("materials/frame_offset", slice(None)))
        atoms_of = np.diff(shard.read("frames/atom_offset", slice(None)))
        kept_frames = np.repeat(are_chosen, frames_of)
        kept = {"materials": are_chosen, "frames": kept_frames, "atoms": np.repeat(kept_frames, atoms_of)}
        number = np.cumsum(are_chosen) - 1 + self.n_materials
        before = self.n_atoms
        for column in (*FRAME_COLUMNS, *ATOM_COLUMNS, *MATERIAL_COLUMNS, *shard.optional):
            flags = kept[column.rows]
            for rows in _blocks(len(flags)):
                values = shard.read(column.path, rows)[flags[rows]]
                if column in shard.optional:
                    self._append_optional(column, values, before)
                else:
                    self._append(column.path, number[values] if column.name == "material" else values)
        for column in self._optional():
            if column not in shard.optional:
                self._append_optional(column, np.full((int(kept["atoms"].sum()), *column.shape), np.nan), before)
        self._append("frames/atom_offset", self.n_atoms + np.cumsum(atoms_of[kept_frames]))
        self._append("materials/frame_offset", self.n_frames + np.cumsum(frames_of[are_chosen]))
        for name in MATERIAL_TEXTS:
            for rows in _blocks(shard.n_materials):
                self._append_texts(f"materials/{name}", list(shard.read(f"materials/{name}", rows)[are_chosen[rows]]))
        for group, kind in ((NUMBERS, Real), (TEXTS, str)):
            self._add_properties(shard, group, kind, are_chosen)
        self._check_disk()
        self.n_frames += int(kept_frames.sum())
        self.n_atoms += int(kept["atoms"].sum())
        self.n_materials += int(are_chosen.sum())

    def _add_properties(
        self, shard: Shard, group: str, kind: type, are_chosen: Bool[np.ndarray, " m"] | None = None
    ) -> None:
        """Append scalar properties of the chosen materials of a store file, or of all (None)."""
        are_chosen = np.ones(shard.n_materials, bool) if are_chosen is None else are_chosen
        known, of_shard = set(self._file[group]), set(shard.file[group])
        for key in sorted(known | of_shard):
            path = f"{group}/{key}"
            if key not in known:
                self._create_property(path, kind, rows=self.n_materials)
            for rows in _blocks(shard.n_materials):
                flags = are_chosen[rows]
                n_rows = int(flags.sum())
                if kind is str:
                    self._append_texts(path, list(shard.read(path, rows)[flags]) if key in of_shard else [""] * n_rows)
                else:
                    self._append(path, shard.read(path, rows)[flags] if key in of_shard else np.full(n_rows, np.nan))

    def _flush(self) -> None:
        if not self._frames:
            return
        self._append_frames()
        self._append_materials()
        self._start_block()
        self._check_disk()

    def _check_disk(self) -> None:
        try:
            self._sink.check()
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _append_frames(self) -> None:
        frames = self._frames
        before = self.n_atoms - self._block_atoms
        self._append("frames/atom_offset", before + np.cumsum([len(f) for f in frames]))
        self._append("frames/energy", [f.energy for f in frames])
        self._append("frames/cell", [f.cell for f in frames])
        self._append("frames/pbc", [f.pbc for f in frames])
        self._append("frames/stress", [_label(f.stress, (6,)) for f in frames])
        self._append("frames/material", self._frame_material)
        self._append("frames/calculation", [f.calculation for f in frames])
        self._append("frames/ionic_step", [f.ionic_step for f in frames])
        self._append("frames/split", self._frame_split)
        self._append("atoms/number", np.concatenate([f.numbers for f in frames]))
        self._append("atoms/position", np.concatenate([f.positions for f in frames]))
        self._append("atoms/force", np.concatenate([_label(f.forces, (len(f), 3)) for f in frames]))
        self._append("atoms/magmom", np.concatenate([_label(f.magmoms, (len(f),)) for f in frames]))
        known = {
            AMOUNT: [f.amounts for f in frames],
            DIRECTION: [f.direction for f in frames],
            CURVATURE: [f.curvature for f in frames],
        }
        for column in self._optional(c for c, values in known.items() if any(one is not None for one in values)):
            values = [_label(one, (len(f), *column.shape)) for one, f in zip(known[column], frames, strict=True)]
            self._append_optional(column, np.concatenate(values), before)

    def _optional(self, more: Iterable[Column] = ()) -> list[Column]:
        """Optional columns that the file has or, as listed in `more`, gets now."""
        more = tuple(more)
        return [column for column in OPTIONAL_COLUMNS if column.path in self._file or column in more]

    def _append_optional(self, column: Column, values: np.ndarray, before: int) -> None:
        """Append values of atoms to an optional column, which the first of them create. `before`: number of atoms that
        have been written."""
        if column.path not in self._file:
            self._create(column.path, np.dtype(column.dtype), column.shape, column.fill)
            self._append(column.path, np.full((before, *column.shape), np.nan))
        self._append(column.path, values)

    def _append_materials(self) -> None:
        trajectories = [trajectory for trajectory, _ in self._materials]
        first = self.n_frames - len(self._frames)
        self._append("materials/frame_offset", first + np.cumsum([len(t.frames) for t in trajectories]))
        self._append("materials/dimensionality", [t.dimensionality for t in trajectories])
        self._append("materials/split", [code for _, code in self._materials])
        self._append_texts("materials/id", [t.material_id for t in trajectories])
        self._append_texts("materials/formula", [_formula(t) for t in trajectories])
        self._append_texts("materials/functional", [t.functional for t in trajectories])
        self._append_properties(trajectories)

    def _append_properties(self, trajectories: list[Trajectory]) -> None:
        before = self.n_materials - len(trajectories)
        for group, kind in ((NUMBERS, Real), (TEXTS, str)):
            of_kind = [{k: v for k, v in t.properties.items() if isinstance(v, kind)} for t in trajectories]
            known = set(self._file[group])
            for key in sorted(known.union(*of_kind)):
                path = f"{group}/{key}"
                if key not in known:
                    self._create_property(path, kind, rows=before)
                if kind is str:
                    self._append_texts(path, [p.get(key, "") for p in of_kind])
                else:
                    self._append(path, [p.get(key, np.nan) for p in of_kind])

    def _create_property(self, path: str, kind: type, rows: int) -> None:
        """Create the column of a property that is new, with no value for the materials before."""
        if kind is str:
            self._create(path, h5py.string_dtype(), (), "")
            self._append_texts(path, [""] * rows)
        else:
            self._create(path, np.dtype("f8"), (), np.nan)
            self._append(path, np.full(rows, np.nan))

    def _append(self, path: str, values: Any) -> None:
        dataset = self._file[path]
        values = np.asarray(values, dtype=dataset.dtype).reshape(-1, *dataset.shape[1:])
        self._checksums[path].update(values)
        rows = len(dataset)
        dataset.resize(rows + len(values), axis=0)
        # A label that no frame of the block has is left to the fill value NaN, which takes no space.
        if values.dtype.kind != "f" or not np.isnan(values).all():
            dataset[rows:] = values

    def _append_texts(self, path: str, texts: list[str]) -> None:
        dataset = self._file[path]
        self._checksums[path].update(texts)
        dataset.resize(len(dataset) + len(texts), axis=0)
        dataset[len(dataset) - len(texts) :] = texts

    def finish(self) -> None:
        """Write buffered data, metadata and checksums, and replace the target by the finished file."""
        self._flush()
        counts = {"frames": self.n_frames, "atoms": self.n_atoms, "materials": self.n_materials}
        version = FORMAT_VERSION if AMOUNT.path in self._file else STRUCTURES_VERSION
        metadata = json.dumps(self.metadata | {"counts": counts, "format_version": version}, sort_keys=True)
        metadata_checksum = Checksum()
        metadata_checksum.update([metadata])
        self._checksums["metadata"] = metadata_checksum
        self._file["metadata"] = metadata
        self._file["checksums"] = json.dumps({k: c.hexdigest() for k, c in self._checksums.items()})
        self._file.attrs["format"] = FORMAT
        self._file.attrs["format_version"] = version
        self._file.close()
        self._check_disk()
        self._sink.close()
        with self._partial.open("r+b") as file:
            file.write(file_checksum(self._partial))
        put_in_place(self._partial, self.path)

    def abort(self) -> None:
        """Discard what was written; the target stays as it was."""
        self._file.close()
        self._sink.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is not None:
            self.abort()
            return
        try:
            self.finish()
        except BaseException:  # such as a full disk
            self.abort()
            raise


def _blocks(n_rows: int, first: int = 0) -> Iterator[slice]:
    """Slices of at most `BLOCK` rows that cover rows `first` to n_rows - 1."""
    for start in range(first, n_rows, BLOCK):
        yield slice(start, min(start + BLOCK, n_rows))


def _label(values: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, np.nan) if values is None else values


def _formula(trajectory: Trajectory) -> str:
    """The source's own formula, or else the reduced formula."""
    given = trajectory.properties.get("formula")
    if isinstance(given, str):
        return given
    symbols = Counter(chemical_symbols[z] for z in trajectory.frames[0].numbers)
    return Formula.from_dict(symbols).reduce()[0].format("metal")
