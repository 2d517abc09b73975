"""Paths and folders -> source files -> materials: which reader reads what."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mlip.data import alexandria, ase_files
from mlip.data.records import Entry, Skipped, Trajectory
from mlip.data.streams import OnBytes
from mlip.errors import MlipError

_ALEXANDRIA = (".json", ".json.bz2", ".json.gz")
_STORE = (".h5", ".hdf5")
_ENDINGS = (
    *_ALEXANDRIA,
    *(f"{ending}{packed}" for ending in (".extxyz", ".xyz") for packed in ("", ".gz", ".bz2")),
    *(".db", ".aselmdb", ".traj", ".cif", ".vasp"),
)
"""What is taken from a folder. A file that is named itself may have any name that ASE knows."""


def source_files(paths: Iterable[Path]) -> list[Path]:
    """The files to read: as given, and a folder's (with its sub-folders') in the order of their names.

    Raises:
        MlipError: a path does not exist, or a folder holds nothing that can be read.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise MlipError("no such file or folder", where=str(path))
        found = _files_of_folder(path) if path.is_dir() else [path]
        files |= {file.resolve(): file for file in found if file.resolve() not in files}
    for file in files.values():
        if file.suffix in _STORE:
            raise MlipError("a store is what is built, not a source", where=str(file), fix="give its sources")
    return list(files.values())


def _files_of_folder(folder: Path) -> list[Path]:
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name.lower().endswith(_ENDINGS)
    )
    if not found:
        raise MlipError(
            "the folder holds nothing to read", where=str(folder), fix=f"files named *{', *'.join(_ENDINGS)}"
        )
    return found


def read_source(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
) -> Iterator[Trajectory | Entry | Skipped]:
    """The materials of a file, streaming.

    Raises:
        MlipError: see the readers, `mlip.data.alexandria` and `mlip.data.ase_files`.
    """
    reader = alexandria.read if path.name.lower().endswith(_ALEXANDRIA) else ase_files.read
    return reader(path, functional=functional, dimensionality=dimensionality, on_bytes=on_bytes)
