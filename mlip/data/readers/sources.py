"""Choice of readers: from paths and folders to source files, and from these to materials."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from mlip.data.readers import alexandria, ase_files, optimade, outcar, property_table, vasp
from mlip.data.readers.streams import OnBytes
from mlip.data.records import Entry, Skipped, Trajectory
from mlip.data.shard import is_store_file
from mlip.errors import MlipError

NOT_READ = "source cannot be read to its end"
NO_MATERIAL = "source without a material"
"""Reasons for skipping a whole source."""

_T = TypeVar("_T")


class Reader(NamedTuple):
    """A format: which files have it, and the function that reads them."""

    takes: Callable[[Path], bool]
    read: Callable[..., Iterator[Trajectory | Entry | Skipped]]
    names: tuple[str, ...]
    """Patterns of the file names that are taken from a folder, for messages."""
    in_folders: bool = True
    """Whether such files are taken from folders. If not, a file must be named itself, because many other files have the
    same ending."""
    options: tuple[str, ...] = ()
    """Options of `read` besides `functional` and `on_bytes`, named as in `read_source`."""


READERS = (
    Reader(optimade.is_page, optimade.read, (), options=("dimensionality",)),
    Reader(
        alexandria.is_alexandria,
        alexandria.read,
        tuple(f"*{ending}" for ending in alexandria.ENDINGS),
        options=("dimensionality",),
    ),
    Reader(vasp.is_vasprun, vasp.read, ("vasprun.xml",), options=("dimensionality", "name")),
    Reader(outcar.is_outcar, outcar.read, ("OUTCAR",), options=("dimensionality", "name")),
    Reader(
        property_table.is_property_table,
        property_table.read,
        tuple(f"*{ending}" for ending in property_table.ENDINGS),
        in_folders=False,
    ),
    Reader(
        ase_files.has_ending,
        ase_files.read,
        tuple(f"*{ending}" for ending in ase_files.ENDINGS),
        options=("dimensionality", "name", "stem", "keys"),
    ),
)
"""All formats. A file gets the first reader that takes it. A file that is named itself and that no reader takes gets
the last one, because ASE knows many formats."""


def reader_of(path: Path) -> Reader:
    """Reader of a file."""
    return next((reader for reader in READERS if reader.takes(path)), READERS[-1])


def source_files(paths: Iterable[Path]) -> list[Path]:
    """Files to read: those given, and the files of given folders (with subfolders), sorted by name.

    Raises:
        MlipError: a path does not exist, a folder holds no readable file, or a file is a store.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise MlipError("no such file or folder", where=str(path))
        found = _sources_of_folder(path) if path.is_dir() else [path]
        files |= {file.resolve(): file for file in found if file.resolve() not in files}
    for file in files.values():
        if is_store_file(file):
            raise MlipError("a store is what is built, not a source", where=str(file), fix="give its sources")
    return list(files.values())


def source_names(paths: Iterable[Path]) -> dict[Path, str]:
    """The files of `source_files` with their names: the path within the given folder, or the file name if the file
    itself was given. Equal names are extended by as many parent folders as distinguish them.

    Raises:
        MlipError: any error of `source_files`.
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


def source_stems(names: Iterable[str]) -> dict[str, str]:
    """Name for materials without an id, by the name of their source: the source's name without the file's format, which
    is kept where names differ in it alone (`OUTCAR.a`, `OUTCAR.b`)."""
    stems = {name: ase_files.stem_of(name) for name in names}
    uses = Counter(stems.values())
    return {name: stem if uses[stem] == 1 else name for name, stem in stems.items()}


def _n_parts_within(folders: list[Path], file: Path) -> int:
    """Number of parts of the file's path within the first folder that contains it; 1 if none does."""
    return next((len(file.relative_to(folder).parts) for folder in folders if file.is_relative_to(folder)), 1)


def ignored_files(paths: Iterable[Path]) -> dict[str, int]:
    """Number of files in the given folders that no reader takes, by suffix or "no suffix"; hidden files do not
    count."""
    folders = [path for path in paths if path.is_dir()]
    taken = {file.resolve() for folder in folders for file in _sources_of_folder(folder)}
    files = {file.resolve() for folder in folders for file in _files_of_folder(folder)}
    return dict(sorted(Counter(_suffix(file) for file in files - taken).items()))


def _suffix(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    packed = suffixes[-2:] if suffixes and suffixes[-1] in (".gz", ".bz2", ".xz", ".zst") else suffixes[-1:]
    return "".join(packed) or "no suffix"


def _files_of_folder(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _sources_of_folder(folder: Path) -> list[Path]:
    files = _files_of_folder(folder)
    runs = {_run_of(path) for path in files if vasp.is_vasprun(path)}
    taken = [path for path in files if any(reader.in_folders and reader.takes(path) for reader in READERS)]
    found = [path for path in taken if reader_of(path).read is not outcar.read or _run_of(path) not in runs]
    if not found:
        others = ", ".join(f"{n} x {suffix}" for suffix, n in sorted(Counter(map(_suffix, files)).items()))
        raise MlipError(
            "the folder holds nothing to read" + (f", but {others}" if others else ""),
            where=str(folder),
            fix=f"files named {', '.join(name for reader in READERS if reader.in_folders for name in reader.names)}",
        )
    return found


def _run_of(path: Path) -> tuple[Path, str]:
    """Folder and run name of a vasprun.xml or an OUTCAR. If a folder has both for a run, the vasprun.xml is read: it
    has more decimals and does not need parsing of free text."""
    return path.parent, vasp.run_of(path.name)


def read_source(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
    name: str | None = None,
    stem: str | None = None,
    keys: Mapping[str, str] | None = None,
) -> Iterator[Trajectory | Entry | Skipped]:
    """Materials of a file, streamed.

    Args:
        functional: functional of materials that state none; a material that states another one is `Skipped`
            (`mlip.data.readers.naming`).
        name: name of the file from `source_names`, used in the ids of materials that have none.
        stem: name of the file from `source_stems`.
        keys: for ASE's files, keys of labels under other names than ASE's (`mlip.data.readers.labels`).

    Raises:
        MlipError: any error of the reader.
    """
    reader = reader_of(path)
    its_own = {"dimensionality": dimensionality, "name": name, "stem": stem, "keys": keys}
    options = {option: its_own[option] for option in reader.options}
    return reader.read(path, functional=functional, on_bytes=on_bytes, **options)


def read_past_faults(items: Iterator[_T], path: Path, name: str, as_item: Callable[[Skipped], _T]) -> Iterator[_T]:
    """Items of a source. If reading fails, or gives no item, a `Skipped` record of that comes last.

    One file among many must not end a build, whatever its reader raises. This includes errors of the packages that
    readers use, which are of many types.

    Args:
        items: iterator that reads the source.
        name: name of the source from `source_names`.
        as_item: converts the record to an item.

    Raises:
        BrokenExecutor, MemoryError: errors that are not the source's fault.
    """
    n_items = 0
    try:
        if not path.stat().st_size:
            yield as_item(Skipped(name, NO_MATERIAL, "0 bytes", str(path)))
            return
        for item in items:
            n_items += 1
            yield item
    except (BrokenExecutor, MemoryError):
        raise
    except MlipError as error:
        yield as_item(Skipped(name, NOT_READ, str(error).removeprefix(f"{path}: "), str(path)))
        return
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        yield as_item(Skipped(name, NOT_READ, what, str(path)))
        return
    if not n_items and not optimade.is_page(path):  # an answer's last page may be empty
        yield as_item(Skipped(name, NO_MATERIAL, "its reader found none", str(path)))
