"""Output paths: make folders, replace existing files only on request, and report failures in one line."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlip.errors import MlipError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers that mean: the disk is full, the user's quota is used up, or the file exceeds the largest size."""

_FIX = "name another place"


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; an existing folder is fine.

    Raises:
        MlipError: a file is in the way, or the place is not writable.
    """
    _check_place(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MlipError(f"cannot be made: {error.strerror}", where=str(folder), fix=_FIX) from None


def check_new(path: Path, *, force: bool) -> None:
    """Check that an output file may be written at `path`, before any work is done for it. Nothing is created.

    Args:
        force: allow an existing file to be replaced.

    Raises:
        MlipError: the file exists and `force` is false, or `path` or its folder cannot be written.
    """
    if path.is_dir():
        raise MlipError("is a folder", where=str(path), fix="name a file in it")
    if path.exists() and not force:
        raise MlipError("exists already", where=str(path), fix="--force replaces it; or name another file")
    _check_place(path.parent)


def _check_place(folder: Path) -> None:
    """Raise MlipError if a folder cannot be made or written into, as far as can be told without making it."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise MlipError(f"cannot be made: {nearest} is a file, not a folder", where=str(folder), fix=_FIX)
    if not os.access(nearest, os.W_OK):
        raise MlipError(f"cannot be written into: no right to write in {nearest}", where=str(folder), fix=_FIX)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Context for writing at `path`, in which an OSError becomes a one-line MlipError.

    Raises:
        MlipError: the place does not exist or is not writable, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> MlipError:
    """MlipError that says in one line why `path` was not written."""
    fix = f"make room, or {_FIX}" if error.errno in (*NO_ROOM, errno.EIO) else _FIX
    return MlipError(f"cannot be written ({error.strerror or error})", where=str(path), fix=fix)
