"""Scalars as TensorBoard's event files, written by the thread that calls: where the disk is full, the caller is told.

(tensorboardX's `SummaryWriter` writes in a thread of its own, which dies with a traceback and leaves the run in the
dark.)
"""

import os
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

_SECONDS_A_FLUSH = 60.0


class EventFile:
    """A new event file in `folder`; events of earlier ones from step `first_step` on count as never written.

    Raises:
        OSError: from any method, where nothing can be written.
    """

    def __init__(self, folder: Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        # Its own names tell seconds, in which two may begin.
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
