"""Host memory available to programs.

A GPU rejects allocations that do not fit. An operating system promises memory that it does not have and then kills a
process that uses it. On a CPU the available memory must therefore be checked in advance, for all programs that run at
once.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psutil import virtual_memory

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> float:
    """Number of bytes that can be used without swapping, within the limit of a container."""
    return min(virtual_memory().available, _of_container())


def _of_container() -> float:
    """Bytes available within the limit of cgroup 2, counting the page cache as free; infinite without a limit."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        details = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return float("inf")
    return float("inf") if limit == "max" else int(limit) - used + int(details.get("inactive_file", 0))


class Room:
    """Memory shared by programs in several threads; a program waits until there is room for it next to the others."""

    def __init__(self):
        self._changed = threading.Condition()
        self._capacity = 0.0
        self._taken = 0.0
        self.most_taken = 0.0
        """Largest number of bytes used at once. The process may still hold them although they are unused, so that they
        do not count as available."""

    @contextmanager
    def taken(self, n_bytes: float) -> Iterator[None]:
        """Context manager that reserves `n_bytes`. A single program may always run: whether it fits was checked when it
        was compiled."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + n_bytes <= self._capacity)
            if not self._taken:
                self._capacity = max(available_memory(), self.most_taken)
            self._taken += n_bytes
            self.most_taken = max(self.most_taken, self._taken)
        try:
            yield
        finally:
            with self._changed:
                self._taken -= n_bytes
                self._changed.notify_all()
