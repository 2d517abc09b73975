"""Reading of untrusted files: checked before use, never executed; damage is reported in one line with the file's
name."""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlip.convert.layers import Arrays
from mlip.errors import MlipError

DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)
"""Errors that zipfile and numpy raise for a file that is truncated or altered."""


_LARGEST_PICKLE = 1 << 22
"""Largest number of bytes of a pickle that are searched for a name; the arrays are stored outside the pickle."""


class ReadOptions(NamedTuple):
    """Options of `mlip.convert.convert`; each reader uses those that concern its format."""

    functional: str | None = None
    aggregate: str | None = None
    trust_pickle: bool = False
    element_vectors: str | Path | None = None
    predicts: str | None = None


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        MlipError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise MlipError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except ValueError as error:
        raise MlipError(f"is not JSON: {_one_line(error)}", where=str(path)) from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Content of a file that holds a JSON object.

    Raises:
        MlipError: the file is missing or not a JSON object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise MlipError("is not a JSON object", where=str(path))
    return value


def check_archive(path: Path) -> None:
    """Verify all checksums of a zip archive. PyTorch's files are zip archives, and PyTorch does not verify them.

    Raises:
        MlipError: the file is missing, altered or truncated.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except DAMAGED as error:
        raise MlipError(f"is no undamaged archive: {_one_line(error)}", where=str(path)) from None
    if damaged:
        raise MlipError(f"{damaged} has a wrong checksum, the file was altered", where=str(path))


def torch_file_names(source: Path, name: str) -> bool:
    """Whether a PyTorch file refers to an array of this name; nothing in it is unpickled."""
    if not zipfile.is_zipfile(source):
        return False
    try:
        with zipfile.ZipFile(source) as archive:
            pickles = [member for member in archive.infolist() if member.filename.endswith("data.pkl")]
            return any(name.encode() in archive.open(member).read(_LARGEST_PICKLE) for member in pickles)
    except DAMAGED:
        return False


def holds_array(source: Path, name: str) -> bool:
    """Whether a file is named NAME_weights.npz and holds an array of this name."""
    if not source.name.endswith("_weights.npz"):
        return False
    with np.load(source, allow_pickle=False) as archive:
        return name in archive.files


def read_npz(path: Path) -> Arrays:
    """Arrays of an npz file by name.

    Raises:
        MlipError: the file is missing or damaged, or holds an array of Python objects.
    """
    check_archive(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except DAMAGED as error:
        raise MlipError(f"cannot be read: {_one_line(error)}", where=str(path)) from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
