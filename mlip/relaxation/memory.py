"""How much memory a program may take on the host.

A GPU refuses what does not fit; an operating system promises memory that it does not have and then kills whoever
uses it, so that on a CPU one has to ask first, and to ask for all that run at once.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psutil import virtual_memory

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> float:
    """Bytes that can be used without swapping, within a container's limit."""
    return min(virtual_memory().available, _of_container())


def _of_container() -> float:
    """By cgroup 2; what its page cache holds counts as free."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        details = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return float("inf")
    return float("inf") if limit == "max" else int(limit) - used + int(details.get("inactive_file", 0))


class Room:
    """The memory that programs of several threads share: one waits until there is room for it beside the others."""

    def __init__(self):
        self._changed = threading.Condition()
        self._capacity = 0.0
        self._taken = 0.0
        self.most_taken = 0.0
        """So much the process may still hold without using it; what it holds does not show as available."""

    @contextmanager
    def taken(self, n_bytes: float) -> Iterator[None]:
        """Within it so many bytes are used. A program may always run by itself: whether it fits then was asked when it
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
