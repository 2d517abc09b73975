"""Content of a store file: its columns, their types, and the checksum of each.

Ragged data are stored as in Apache Arrow: one long column, and offsets at which each owner's rows begin. Frame k has
the atoms `atom_offset[k]:atom_offset[k + 1]`; material m has the frames `frame_offset[m]:frame_offset[m + 1]`. Missing
labels are NaN.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlip.errors import MlipError

FORMAT = "mlip-store"
FORMAT_VERSION = 2
"""Newest version that is read, for stores with materials of which only the composition is known."""
STRUCTURES_VERSION = 1
"""Version of stores that hold structures only, which mlip 0.1 reads."""
SPLITS = ("train", "val", "test")
"""Names of the splits; a split is stored as its index in this tuple."""

NO_STRUCTURE = 0
"""Dimensionality of a material of which only the composition is known."""

END_REMOVED = "path_end_removed"
"""Property, with value 1, of a material whose path has lost its end, the relaxed structure."""


def end_mark(is_lost: bool) -> dict[str, float]:
    """Properties that mark a path whose last step its reader could not use; empty for other paths."""
    return {END_REMOVED: 1.0} if is_lost else {}


CORRECTION = "correction"
"""Property of a material from a computed entry: correction that its source adds to the energy, eV per cell."""


def split_code(split: str) -> int:
    """Number that represents a split in the store; raises MlipError for an unknown split."""
    if split not in SPLITS:
        raise MlipError(f"unknown split {split!r}", fix=f"one of {', '.join(SPLITS)}")
    return SPLITS.index(split)


class Column(NamedTuple):
    """One dataset of shape (rows, *shape) and type `dtype`; `rows` names the group that contains it."""

    rows: str
    name: str
    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def path(self) -> str:
        return f"{self.rows}/{self.name}"

    @property
    def fill(self) -> Any:
        """Value that represents a missing one."""
        return np.nan if np.dtype(self.dtype).kind == "f" else 0


FRAME_COLUMNS = (
    Column("frames", "energy", "f8"),
    Column("frames", "cell", "f8", (3, 3)),
    Column("frames", "pbc", "u1", (3,)),
    Column("frames", "stress", "f8", (6,)),
    Column("frames", "material", "i4"),
    Column("frames", "calculation", "i4"),
    Column("frames", "ionic_step", "i4"),
    Column("frames", "split", "u1"),
)
ATOM_COLUMNS = (
    Column("atoms", "number", "u1"),
    Column("atoms", "position", "f8", (3,)),
    Column("atoms", "force", "f4", (3,)),
    Column("atoms", "magmom", "f4"),
)
AMOUNT = Column("atoms", "amount", "f8")
"""Amounts of sites without a structure (`Frame.amounts`), NaN for atoms; only stores with such materials have the
column."""
DIRECTION = Column("atoms", "direction", "f8", (3,))
CURVATURE = Column("atoms", "curvature", "f4", (3,))
"""Direction and curvature of frames (`Frame.direction`, `Frame.curvature`), NaN where not known; only stores that have
any have the two columns."""
OPTIONAL_COLUMNS = (AMOUNT, DIRECTION, CURVATURE)
MATERIAL_COLUMNS = (
    Column("materials", "dimensionality", "u1"),
    Column("materials", "split", "u1"),
)
OFFSETS = (Column("frames", "atom_offset", "i8"), Column("materials", "frame_offset", "i8"))
"""Columns of offsets, one row longer than what they index; the first offset is 0."""

MATERIAL_TEXTS = ("id", "formula", "functional")
NUMBERS, TEXTS = "materials/numbers", "materials/texts"
"""Groups of the scalar properties: one dataset per property, NaN or "" where a material has none."""


FILE_CHECKSUM_BYTES = 512
"""Size of the block before the HDF5 data proper (HDF5's user block, at least 512 bytes), which holds the checksum of
everything after it."""


class Checksum:
    """BLAKE2b of a column's values in their order, independent of the blocks in which they come."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def update(self, values: np.ndarray | Sequence[str]) -> None:
        if isinstance(values, np.ndarray):
            self._hash.update(np.ascontiguousarray(values).data)
        else:
            for text in values:
                self._hash.update(text.encode() + b"\0")

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def file_checksum(path: Path) -> bytes:
    """First `FILE_CHECKSUM_BYTES` bytes that an intact store file must have: a line of text, then zeros."""
    with path.open("rb") as file:
        file.seek(FILE_CHECKSUM_BYTES)
        digest = hashlib.file_digest(file, "blake2b").hexdigest()
    return f"{FORMAT}; blake2b of what follows byte {FILE_CHECKSUM_BYTES}: {digest}\n".encode().ljust(
        FILE_CHECKSUM_BYTES, b"\0"
    )
