"""Where a command writes: folders are made, files that exist are not replaced unasked, what fails is one line."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlip.errors import MlipError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors that mean: the disk is full, the user's share of it is, or the file is larger than it may be."""

_FIX = "name another place"


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it; one that exists is fine.

    Raises:
        MlipError: a file lies in the way, or nobody may write there.
    """
    _check_place(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MlipError(f"cannot be made: {error.strerror}", where=str(folder), fix=_FIX) from None


def check_new(path: Path, *, force: bool) -> None:
    """Check that an output may be written at `path`, before any work is done for it. Nothing is made.

    Args:
        force: a file that exists may be replaced.

    Raises:
        MlipError: it exists, and `force` is false; it is a folder; its own folder cannot be made or written into.
    """
    if path.is_dir():
        raise MlipError("is a folder", where=str(path), fix="name a file in it")
    if path.exists() and not force:
        raise MlipError("exists already", where=str(path), fix="--force replaces it; or name another file")
    _check_place(path.parent)


def _check_place(folder: Path) -> None:
    """Whether a folder is there, or can be made, as far as can be told without making it."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise MlipError(f"cannot be made: {nearest} is a file, not a folder", where=str(folder), fix=_FIX)
    if not os.access(nearest, os.W_OK):
        raise MlipError(f"cannot be written into: no right to write in {nearest}", where=str(folder), fix=_FIX)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Where files and folders are made.

    Raises:
        MlipError: there is no such place, it is the property of others, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> MlipError:
    """The one line that says why a file is not there."""
    fix = f"make room, or {_FIX}" if error.errno in (*NO_ROOM, errno.EIO) else _FIX
    return MlipError(f"cannot be written ({error.strerror or error})", where=str(path), fix=fix)
