"""Journals: JSON lines, each appended and flushed as soon as it is known, so that a killed run goes on where it was.

What a kill leaves is whole lines and at most one that is cut short, the last one, which counts as not written.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from mlip.errors import MlipError
from mlip.files.one_writer import claim
from mlip.files.whole_file import whole_file

_SYNC_EVERY = 1.0


class Journal:
    """A journal opened for appending; a context manager. A process that is killed loses nothing.

    Args:
        path: created when absent; its folder must exist.
        durable: lines are on the disk within a second, and all in the end. False: a machine that dies may lose some.

    Raises:
        OSError: it cannot be opened; when records are appended: there is no room.
        MlipError: another process appends to it.
    """

    def __init__(self, path: Path, *, durable: bool = True):
        self.path = path
        self._synced = 0.0 if durable else math.inf
        self._file = path.open("a", encoding="utf-8")
        try:
            claim(self._file, MlipError("another process appends to it now", where=str(path)))
        except BaseException:
            self._file.close()
            raise

    def append(self, record: dict[str, Any]) -> None:
        """Write a line. Numbers that are not finite are no JSON: ValueError."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        if time.monotonic() - self._synced > _SYNC_EVERY:
            self._sync()

    def cut(self, n_bytes: int) -> None:
        """Forget what stands behind the first bytes."""
        os.truncate(self.path, n_bytes)

    def close(self) -> None:
        if not self._file.closed:
            try:
                if math.isfinite(self._synced):
                    self._sync()
            finally:
                self._file.close()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: Path) -> Iterator[Any]:
    """The records of a journal, one at a time, up to one that is cut short or being written.

    Raises:
        MlipError: a line is no JSON.
    """
    return (record for record, _ in whole_lines(path))


def whole_lines(path: Path) -> Iterator[tuple[Any, bytes]]:
    """Each record of a journal with its line.

    Raises:
        MlipError: a line is no JSON.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line), line
            except ValueError:
                raise MlipError("is no JSON", where=f"{path}:{number}", fix="remove the line to redo it") from None


def keep_records(path: Path, is_kept: Callable[[Any], bool]) -> None:
    """Drop the other records of a journal, if there is one, and a line that is cut short."""
    if path.exists():
        kept = [line for record, line in whole_lines(path) if is_kept(record)]
        with whole_file(path) as partial:
            partial.write_bytes(b"".join(kept))
