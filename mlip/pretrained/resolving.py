"""From what a user gives as a potential (a path, a registered name or a published checkpoint) to the path of a file."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from mlip import __version__
from mlip.errors import MlipError
from mlip.files.known_folders import cache_folder
from mlip.mistaken_paths import UNREADABLE, mistaken
from mlip.pretrained.conversion import convert
from mlip.pretrained.entry import PretrainedEntry
from mlip.pretrained.obtaining import (
    CONVERSION,
    check_readable,
    convert_known,
    converted_file,
    obtain,
    to_stderr,
)
from mlip.pretrained.registry import default_potential, entry_of_digest, is_known, known, near_names

CALCULATOR = "ase:"
"""Prefix of a text that names an ASE calculator (`mlip.foreign`)."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*:/+", re.IGNORECASE)  # a Path turns two slashes into one
_OF_OTHERS = {".model", ".pth", ".pt", ".nqx", ".ckpt", ".npz", ".tar"}
_PICKLES = {".model", ".pth", ".pt", ".ckpt", ".tar"}
_ZIP = b"PK\x03\x04"
"""First bytes of PyTorch's files, which are zip archives."""
_CHECKPOINTS = (
    ("m3gnet", ("m3gnet.index", "m3gnet.data-00000-of-00001", "m3gnet.json")),
    ("matgl", ("model.json", "state.pt")),
)
"""Converter and file names of the checkpoint folders that are read without executing anything in them."""


def resolve(potential: str | os.PathLike) -> Path:
    """Path of a potential's file in mlip's format.

    Args:
        potential: a file in mlip's format, which is returned unchanged; a name that `mlip models` lists, which is
            downloaded and converted once; or a published checkpoint that is safe to read or known by its checksum,
            which
            is converted once.

    Raises:
        MlipError: an unknown name (similar names are suggested), an ASE calculator, a checkpoint to be converted by
            hand (the command is given), an unknown address, or any error of `obtain`.
    """
    text, path = os.fspath(potential), Path(potential)
    if path.is_file():
        return _checkpoint_file(path) if _is_of_another_code(path) else path
    if path.is_dir() and (files := _checkpoint_files(path)):
        return _checkpoint_folder(path, files)
    if _URL.match(text):
        return _address(text)
    if text.startswith(CALCULATOR):
        raise MlipError(
            "is a calculator of ASE, and a potential of mlip's is wanted",
            where=text,
            fix="calculators can be evaluated, relax, and be benchmarked by relaxations",
        )
    if is_known(text):
        return obtain(text)
    if path.exists() or _looks_like_a_path(text):
        return path  # its reader says what is wrong with it
    near = near_names(text)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise MlipError(
        "no such potential: neither a file nor a name",
        where=text,
        fix=f"{hint}give a .safetensors file, or a name that `mlip models` lists",
    )


def split_potential(arguments: Sequence[str | os.PathLike]) -> tuple[str, list[str]]:
    """Split the arguments of a command that takes a potential, which may be omitted, and files.

    The first argument is the potential if it is a potential's file or a known name, or, unless it is the only argument,
    if it looks like a mistyped name.

    Returns:
        The potential (the default one if none was given), and the files.

    Raises:
        MlipError: there is a potential, but no file.
    """
    first, *others = map(os.fspath, arguments)
    if not _may_be_a_potential(first, is_alone=not others):
        return default_potential(), [first, *others]
    if not others:
        raise MlipError("a potential, and no file with structures", where=first, fix="give files that ASE reads")
    return first, others


def _may_be_a_potential(text: str, is_alone: bool) -> bool:
    path = Path(text)
    if path.is_file():
        return _is_safetensors(path) or _is_of_another_code(path)
    if (
        text.startswith(CALCULATOR)
        or is_known(text)
        or _URL.match(text)
        or path.suffix.lower() in {".safetensors", *_OF_OTHERS}
    ):
        return True
    if path.is_dir():
        return bool(_checkpoint_files(path))
    return not is_alone and (not path.suffix or bool(near_names(text)))  # rather a mistyped name than a file


def _is_safetensors(path: Path) -> bool:
    return _start(path)[8:] == b"{"


def _is_of_another_code(path: Path) -> bool:
    """Whether a file is a checkpoint of another code. Its first bytes decide before its name, which may be arbitrary: a
    safetensors file has JSON after its first eight bytes."""
    start = _start(path)
    return start[8:] not in (b"{", b"") and (path.suffix.lower() in _OF_OTHERS or start.startswith(_ZIP))


def _start(path: Path) -> bytes:
    """First nine bytes of a file; empty if it cannot be read, which its reader reports."""
    try:
        with path.open("rb") as stream:
            return stream.read(9)
    except OSError:
        return b""


def _looks_like_a_path(text: str) -> bool:
    return "/" in text or os.sep in text or Path(text).suffix.lower() in {".safetensors", ".h5", ".hdf5", *_OF_OTHERS}


def _address(url: str) -> Path:
    """Path of the registered potential that has a file at this address.

    Raises:
        MlipError: no registered potential has a file there.
    """
    for entry in known().values():
        if any(_same_address(url, known_url) for file in entry.source.files for known_url in file.urls):
            return obtain(entry.name)
    raise mistaken(Path(url))


def _same_address(first: str, second: str) -> bool:
    return re.sub(":/+", "://", first) == second


def _checkpoint_file(path: Path) -> Path:
    """Path of the potential converted from a file of another code whose checksum is pinned here.

    Raises:
        MlipError: the checksum is unknown; the message gives the command that converts the file.
    """
    entry = entry_of_digest().get(_digest(path))
    if entry is not None:
        check_readable(entry)
        return _converted_once(entry, path)
    if path.suffix.lower() in UNREADABLE:
        raise mistaken(path)
    trust = " --trust-pickle, if you trust its maker" if path.suffix.lower() in _PICKLES else ""
    raise MlipError(
        "is a checkpoint of another code, whose checksum is not one of those that mlip knows",
        where=str(path),
        fix=f"mlip convert {path} {path.with_suffix('.safetensors').name}{trust}",
    )


def _converted_once(entry: PretrainedEntry, path: Path) -> Path:
    out = converted_file(entry)
    if not out.is_file():
        convert_known(entry, path, out, to_stderr)
    return out


def _checkpoint_files(folder: Path) -> list[Path]:
    for _, names in _CHECKPOINTS:
        if all((folder / name).is_file() for name in names):
            return [folder / name for name in names]
    return []


def _checkpoint_folder(folder: Path, files: list[Path]) -> Path:
    """Path of the potential converted from a folder of another code. The cache holds one conversion for each
    content."""
    digests = [_digest(file) for file in files]
    key = hashlib.sha256("\n".join([__version__, str(CONVERSION), *digests]).encode()).hexdigest()[:16]
    name = folder.resolve().name
    out = cache_folder() / "pretrained" / "converted" / key / f"{name}.safetensors"
    if not out.is_file():
        to_stderr(f"{folder} is a checkpoint of another code; it is converted once, into {out}")
        convert(folder.resolve(), out, [], where=str(folder))
    return out


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
