"""One process at a time writes a file or into a folder, by a lock that the system takes from a process that dies.

The package filelock does less: it cannot lock a file that holds something, and where a file system has no locks it puts
a file there instead, which a killed process leaves to keep all others out.
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
"""Seconds between two attempts of one that waits."""

_HAS_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""Errors of file systems without locks, as Lustre may be mounted."""


@contextmanager
def one_writer(lock: Path, refusal: MlipError, patience: float = 0.0) -> Iterator[None]:
    """Within it this process alone holds the lock, a file that is there as long; its folder must exist.

    Args:
        patience: seconds to wait for another that holds it.

    Raises:
        MlipError: `refusal`, as another holds it; or nobody may write there.
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
                continue  # one that ended in between has removed it: it is no lock to anybody else
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def claim(file: IO, refusal: MlipError) -> None:
    """Lock an open file until it is closed. Where the file system has no locks, a warning says so.

    Raises:
        MlipError: `refusal`, as it is locked.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter from some network file systems
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
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
