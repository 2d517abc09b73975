"""Paths and folders -> source files -> materials: which reader reads what."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlip.data import alexandria, ase_files, optimade, vasp
from mlip.data.records import Entry, Skipped, Trajectory
from mlip.data.shard import is_store_file
from mlip.data.streams import OnBytes
from mlip.errors import MlipError

_ALEXANDRIA = (".json", ".json.bz2", ".json.gz")
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
        if is_store_file(file):
            raise MlipError("a store is what is built, not a source", where=str(file), fix="give its sources")
    return list(files.values())


def source_names(paths: Iterable[Path]) -> dict[Path, str]:
    """`source_files`, each with what to call it: its path within the given folder, or its name if it was given
    itself; where two would be called the same, with as many more of their folders as tell them apart.

    Raises:
        MlipError: as `source_files`.
    """
    paths = list(paths)
    files = source_files(paths)
    folders = [path.absolute() for path in paths if path.is_dir()]
    lengths = {file: _n_parts_within(folders, file.absolute()) for file in files}
    while True:
        names = {file: "/".join(file.absolute().parts[-length:]) for file, length in lengths.items()}
        uses = Counter(names.values())
        shared = [file for file in files if uses[names[file]] > 1]
        if not shared:
            return names
        for file in shared:
            lengths[file] += 1


def _n_parts_within(folders: list[Path], file: Path) -> int:
    """Of the file's path, how many parts lie within the first folder that holds it; 1 if none does."""
    return next((len(file.relative_to(folder).parts) for folder in folders if file.is_relative_to(folder)), 1)


def _files_of_folder(folder: Path) -> list[Path]:
    found = sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".") and _is_source(path)
    )
    if not found:
        raise MlipError(
            "the folder holds nothing to read",
            where=str(folder),
            fix=f"files named *{', *'.join(_ENDINGS)}, vasprun.xml",
        )
    return found


def is_alexandria(path: Path) -> bool:
    """Whether a file is read as one of ALEXANDRIA's (or MPtrj's)."""
    return path.name.lower().endswith(_ALEXANDRIA) and not optimade.is_page(path)


def _is_source(path: Path) -> bool:
    return path.name.lower().endswith(_ENDINGS) or vasp.is_vasprun(path)


def read_source(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
    name: str | None = None,
) -> Iterator[Trajectory | Entry | Skipped]:
    """The materials of a file, streaming.

    Args:
        name: what `source_names` calls the file, for the ids of materials that the file gives none.

    Raises:
        MlipError: see the readers: `alexandria`, `optimade`, `vasp` and `ase_files` of `mlip.data`.
    """
    options = {"functional": functional, "dimensionality": dimensionality, "on_bytes": on_bytes}
    if is_alexandria(path):
        return alexandria.read(path, **options)
    if optimade.is_page(path):
        return optimade.read(path, **options)
    if vasp.is_vasprun(path):
        return vasp.read(path, **options, name=name)
    return ase_files.read(path, **options, name=name)
