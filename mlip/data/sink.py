"""File object below HDF5: a full disk becomes an error of ours, of which HDF5 never learns.

HDF5 cannot recover from a failed write: it keeps the data, tries again when objects are freed, and ends the process
with a segmentation fault. It therefore writes through this file. From the first failed write on, bytes go to memory,
where HDF5 can read them again and close normally. The writer calls `check` after each block, and gives up if it raises.
"""

import io
import os
from pathlib import Path


class Sink(io.RawIOBase):
    """A new file for `h5py.File(sink, "w")`.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115 (`close` closes it)
        self._position = 0
        self._error: OSError | None = None
        self._in_memory: list[tuple[int, bytes]] = []
        """Failed writes as (position, bytes), in the order of writing."""

    def check(self) -> None:
        """Check that all writes have succeeded.

        Raises:
            OSError: a write has failed.
        """
        if self._error is not None:
            raise self._error

    def write(self, data) -> int:
        data = memoryview(data).cast("B")
        done = 0
        while self._error is None and done < len(data):
            try:
                done += os.pwrite(self._file.fileno(), data[done:], self._position + done)
            except OSError as error:
                self._error = error
        if done < len(data):
            self._in_memory.append((self._position + done, bytes(data[done:])))
        self._position += len(data)
        return len(data)

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        begin, end = self._position, min(self._position + len(view), self._size())
        found = os.pread(self._file.fileno(), max(0, end - begin), begin)
        view[: max(0, end - begin)] = found.ljust(max(0, end - begin), b"\0")
        for place, data in self._in_memory:
            first, last = max(begin, place), min(end, place + len(data))
            if first < last:
                view[first - begin : last - begin] = data[first - place : last - place]
        self._position = max(begin, end)
        return max(0, end - begin)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size()}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        if self._error is None:
            try:
                self._file.truncate(size)
            except OSError as error:
                self._error = error
        return size

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _size(self) -> int:
        ends = (place + len(data) for place, data in self._in_memory)
        return max(os.fstat(self._file.fileno()).st_size, *ends, 0)
