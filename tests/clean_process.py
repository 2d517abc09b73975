"""A process of its own for what the threads of earlier tests would disturb: counting memory, forking."""

import multiprocessing
import tracemalloc
from collections.abc import Callable
from typing import Any


def in_clean_process(compute: Callable[..., Any], *args: Any) -> Any:
    """What a function of a module gives in a fresh process, which has one thread; what it raises is raised."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(compute, args)


def with_peak_memory(compute: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    """What a function of a module gives, and the most bytes that it held.

    `tracemalloc` crashes where other threads allocate as it is started or stopped (CPython issue 128679, mended in
    3.12.9), so it gets a process of its own.
    """
    return in_clean_process(_traced, compute, args)


def _traced(compute: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, int]:
    tracemalloc.start()
    return compute(*args), tracemalloc.get_traced_memory()[1]
