"""HDF5 files that are opened once per process, however many readers they have.

HDF5 2.0 crashes when a file is open twice and texts of variable length were read through the handle that is closed
first: the next reader of the file accesses freed memory. A single handle per file avoids this.
"""

import os
import threading
import weakref
from pathlib import Path

import h5py

_lock = threading.RLock()  # garbage collection may end a holder while this thread opens a file
_open: dict[tuple[int, int, int], tuple[h5py.File, int]] = {}
"""Open file and number of its holders, by (process, device, inode)."""


class SharedFile:
    """One holder's claim to a file that is open for reading, given up by `close` or when the object is deleted.

    Raises:
        OSError: the file is not readable as HDF5.
    """

    def __init__(self, path: Path):
        status = os.stat(path)
        key = (os.getpid(), status.st_dev, status.st_ino)
        with _lock:
            # A finished store is never written to again (builds replace it), so it needs no lock; locks fail on many
            # parallel file systems.
            file, holders = _open.get(key) or (h5py.File(path, "r", locking=False), 0)
            _open[key] = file, holders + 1
        self.file = file
        self._release = weakref.finalize(self, _release, key)
        self._release.atexit = False  # the end of the process closes its files

    def close(self) -> None:
        self._release()


def _release(key: tuple[int, int, int]) -> None:
    with _lock:
        file, holders = _open[key]
        if holders > 1:
            _open[key] = file, holders - 1
        else:
            del _open[key]
            file.close()
