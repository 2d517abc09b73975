"""Worker processes of a build on this machine, which end with the build, however it ends."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import wait
from typing import Any

from mlip.errors import MlipError


@contextmanager
def process_pool(
    n_workers: int, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Pool whose processes start from a clean one, because forking a process with threads is not safe.

    Raises:
        MlipError: a worker process was killed.
    """
    pool = ProcessPoolExecutor(
        n_workers,
        mp_context=multiprocessing.get_context("forkserver"),
        initializer=_start,
        initargs=(initializer, initargs),
    )
    try:
        yield pool
    except BrokenProcessPool:
        raise MlipError(
            "a worker process was killed (out of memory?)", fix="repeat the command: it goes on where it was"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def n_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(initializer: Callable[..., None] | None, initargs: tuple[Any, ...]) -> None:
    end_with_parent()
    if initializer:
        initializer(*initargs)


def end_with_parent() -> None:
    """Let this worker end when its parent ends: a killed parent sends no message, and its workers would wait forever.

    Without effect in a process that multiprocessing has not started.
    """
    _watch(os.getpid())


@cache
def _watch(process: int) -> None:
    """Start the watching thread of this process, once: a fork inherits the cache, but no thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_end, args=(parent.sentinel,), daemon=True).start()


def _wait_and_end(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
