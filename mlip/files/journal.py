"""Journals: JSON lines, each appended and flushed at once, so that a killed run can resume where it stopped.

A killed process leaves complete lines and at most one truncated line at the end, which readers ignore.
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
    """A journal open for appending, as a context manager. A killed process loses no record that it has appended.

    Args:
        path: the journal's file, created if absent; its folder must exist.
        durable: sync to disk on closing and, while records are appended, once a second. False: a machine that crashes
            may lose records.

    Raises:
        OSError: the file cannot be opened or, while records are appended, the disk is full.
        MlipError: another process appends to the journal.
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
        """Write a record as one line. Raises ValueError for numbers that are not finite, which JSON does not have."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        if time.monotonic() - self._synced > _SYNC_EVERY:
            self._sync()

    def cut(self, n_bytes: int) -> None:
        """Truncate the journal to its first `n_bytes` bytes."""
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
    """Records of a journal, one at a time. A last line that is incomplete, as while it is being written, is left out.

    Raises:
        MlipError: a line is not JSON.
    """
    return (record for record, _ in whole_lines(path))


def whole_lines(path: Path) -> Iterator[tuple[Any, bytes]]:
    """Pairs (record, line as bytes) of a journal; an incomplete last line is left out.

    Raises:
        MlipError: a line is not JSON.
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
    """Drop the records for which `is_kept` is false, and an incomplete last line; does nothing without a journal."""
    if path.exists():
        kept = [line for record, line in whole_lines(path) if is_kept(record)]
        with whole_file(path) as partial:
            partial.write_bytes(b"".join(kept))
