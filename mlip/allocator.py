"""How the C library treats memory that XLA frees; for processes that are ours alone, i.e. commands and workers."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of mallopt(3)
_LARGEST = 2**31 - 1

KEEPING = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(_LARGEST),
    "MALLOC_TRIM_THRESHOLD_": str(_LARGEST),
}
"""Environment of a process that we start, which does what `keep_freed_memory` does."""


def keep_freed_memory() -> None:
    """Let glibc keep what XLA frees instead of giving it back to the system and asking for it again each call.

    A program on the CPU allocates all its intermediate arrays at once, and the page faults of fresh memory
    took a third to a half of an evaluation's time. The price is a process that stays as large as it once was, so this
    is not done to a process of the user's that imports mlip: there it is an offer, to be taken before JAX starts. Other
    C libraries, and a user who set MALLOC_* himself, are left alone.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc: macOS, musl, Windows
        return
    for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _LARGEST)):
        mallopt(parameter, value)
