"""Scalars as TensorBoard event files, written by the calling thread, so that the caller gets the error if the disk is
full.

(tensorboardX's `SummaryWriter` writes in its own thread, which dies with a traceback and leaves the run unaware.)
"""

import os
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

_SECONDS_A_FLUSH = 60.0


class EventFile:
    """A new event file in `folder`; events of earlier files from step `first_step` on are superseded.

    Raises:
        OSError: from any method, if writing fails.
    """

    def __init__(self, folder: Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        # The default names have a resolution of one second, within which two files may be created.
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{time.time_ns()}")
        self._flushed = time.monotonic()
        self._add(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._add(Event(step=step, summary=scalar(name, value)))
        if time.monotonic() - self._flushed > _SECONDS_A_FLUSH:
            self._writer.flush()
            self._flushed = time.monotonic()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)

    def close(self) -> None:
        self._writer.close()
