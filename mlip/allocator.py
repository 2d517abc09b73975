"""Settings of glibc's allocator that keep the memory XLA frees. Only for mlip's own processes: commands and workers."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # parameters of mallopt(3)
_LARGEST = 2**31 - 1

KEEPING = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(_LARGEST),
    "MALLOC_TRIM_THRESHOLD_": str(_LARGEST),
}
"""Environment variables with the effect of `keep_freed_memory`, for processes that mlip starts."""


def keep_freed_memory() -> None:
    """Let glibc keep the memory that XLA frees, instead of returning it to the system and requesting it again every
    call.

    A program on the CPU allocates all its intermediate arrays at once, and the page faults of fresh memory took a third
    to a half of an evaluation's time. The price is that the process never shrinks from its peak size. mlip therefore
    does not change the allocator of a process that merely imports it; users may call this function before JAX starts.
    It does nothing with other C libraries, or if the user has set any MALLOC_* variable.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc: macOS, musl, Windows
        return
    for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _LARGEST)):
        mallopt(parameter, value)
