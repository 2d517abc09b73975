"""Locks that let one process at a time write a file or into a folder. The system releases the lock of a dead process.

The package filelock does less: it cannot lock a file that has content, and on a file system without locks it falls back
to a marker file, which a killed process leaves behind and which then keeps all others out.
"""

import errno
import fcntl
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlip.errors import MlipError

_PAUSE = 0.1
"""Seconds between two attempts to take a lock."""

_HAS_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""Error numbers of file systems without locks; Lustre can be mounted without them."""


@contextmanager
def one_writer(lock: Path, refusal: MlipError, patience: float = 0.0) -> Iterator[None]:
    """Context in which this process alone holds `lock`, a file that exists while it is held; its folder must exist.

    Args:
        refusal: error to raise if another process holds the lock.
        patience: seconds to wait for the other process.

    Raises:
        MlipError: `refusal`, or the folder is not writable.
    """
    latest = time.monotonic() + patience
    while True:
        with _opened(lock) as file:
            try:
                claim(file, refusal)
            except MlipError:
                if time.monotonic() >= latest:
                    raise
                time.sleep(_PAUSE)
                continue
            if not _is_at(file, lock):
                continue  # the last holder removed this file meanwhile, so a lock on it excludes nobody
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def claim(file: IO, refusal: MlipError) -> None:
    """Lock an open file until it is closed. On a file system without locks, warn and go on.

    Raises:
        MlipError: `refusal`, if another process has locked the file.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some network file systems raise the latter
        raise refusal from None
    except OSError as error:
        if error.errno not in _HAS_NO_LOCKS:
            raise
        warnings.warn(
            f"{file.name}: this file system has no locks; take care that nothing else writes here", stacklevel=3
        )


def _opened(lock: Path) -> IO:
    try:
        return lock.open("w")
    except OSError as error:
        raise MlipError(f"cannot write here ({error.strerror})", where=str(lock.parent)) from None


def _is_at(file: IO, path: Path) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
