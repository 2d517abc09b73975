"""Reads structures from files in any format that ASE supports, one at a time; unreadable ones are reported, the others
kept."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from ase.io.extxyz import read_xyz

from mlip.data.structures import check_occupancies
from mlip.errors import MlipError

_DEUTERIUM = 1.5
"""Mass above which a hydrogen atom is one of its heavy isotopes, amu."""


class StructureSource(NamedTuple):
    """A structure and its origin, or the reason why it cannot be read."""

    file: str
    frame: int | None
    """Index of the frame; None for the file as a whole."""
    atoms: Atoms | None
    message: str | None = None


def read_sources(files: Sequence[str | PathLike]) -> list[StructureSource]:
    """All frames of all files in order, with an entry for each unreadable file or frame.

    Raises:
        MlipError: nothing at all can be read.
    """
    sources = [source for file in files for source in _read(Path(file))]
    unreadable = [source for source in sources if source.atoms is None]
    if len(unreadable) == len(sources):
        what, where = unreadable[0].message, unreadable[0].file
        more = f" (and {len(unreadable) - 1} more, none readable)" if len(unreadable) > 1 else ""
        raise MlipError(f"{what}{more}", where=where)
    heavy = {source.file for source in sources if source.atoms is not None and _has_deuterium(source.atoms)}
    if heavy:
        warnings.warn(f"deuterium is taken as hydrogen, in {len(heavy)} file(s): {min(heavy)}", stacklevel=2)
    return sources


def identity_of_inputs(files: Sequence[str | PathLike], n_structures: int) -> dict[str, Any]:
    """Identification of the inputs in the header of a results file: number of files and structures, and a hash of the
    content."""
    content = hashlib.sha256()
    for path in map(Path, files):
        content.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"absent").digest())
    return {"files": len(files), "structures": n_structures, "sha256": content.hexdigest()}


def _read(path: Path) -> Iterator[StructureSource]:
    frame, file = -1, str(path)
    try:
        for frame, atoms in enumerate(_frames(path)):
            fault = atoms if isinstance(atoms, str) else _occupancy_fault(atoms)
            yield StructureSource(file, frame, None if fault else atoms, fault)
    except MlipError as error:
        yield StructureSource(file, frame + 1 if frame >= 0 else None, None, error.what)
    except Exception as error:  # each of ASE's formats fails in its own way
        why = " ".join(": ".join(filter(None, (type(error).__name__, str(error)))).split())
        yield StructureSource(file, frame + 1 if frame >= 0 else None, None, f"ASE cannot read it ({why})")
    else:
        if frame < 0:
            yield StructureSource(file, None, None, "holds no structure")


def _occupancy_fault(atoms: Atoms) -> str | None:
    """Reason why a structure read by ASE is unusable; None if it is usable."""
    try:
        check_occupancies(atoms)
    except MlipError as error:
        return str(error)
    return None


def _frames(path: Path) -> Iterator[Atoms | str]:
    """Structures, or the reason why one cannot be read.

    Raises:
        MlipError: the file does not exist, is a folder, or is empty.
        Exception: any error of ASE while reading.
    """
    if path.is_dir():
        raise MlipError("is a folder")
    if not path.is_file():
        raise MlipError("no such file")
    if path.stat().st_size == 0:
        raise MlipError("ASE cannot read it (the file is empty)")
    if path.suffix.lower() in (".extxyz", ".xyz"):
        yield from _extxyz(path)
    else:
        yield from ase.io.iread(path, index=":")


def _extxyz(path: Path) -> Iterator[Atoms | str]:
    """Structures of an extended XYZ file, frame by frame. A malformed frame does not stop reading as long as its number
    of atoms leads to the next one."""
    with path.open() as lines:
        for header in lines:
            if not header.strip():
                continue
            if not header.strip().isdigit():
                raise MlipError(f"a number of atoms expected, found {header.strip()[:40]!r}")
            text = [header, *(next(lines, "") for _ in range(1 + int(header)))]
            if not text[-1]:
                raise MlipError("the file ends within this frame")
            try:
                yield next(read_xyz(StringIO("".join(text)), 0))
            except Exception as error:  # ASE's parser raises errors of many types
                yield " ".join(f"is not extended XYZ ({type(error).__name__}: {error})".split())


def _has_deuterium(atoms: Atoms) -> bool:
    return atoms.has("masses") and bool(np.any(atoms.get_masses()[atoms.numbers == 1] > _DEUTERIUM))
