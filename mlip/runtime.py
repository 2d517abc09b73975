"""How mlip sets up JAX: compilation cache, float64 on demand, precision of products, time spent compiling.

Nothing here runs at import; `set_up_jax` is called by whatever is about to compile.
"""

import ctypes
import os
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Literal

import jax
import jax.monitoring

from mlip.cache import cache_folder as folder_of_caches
from mlip.errors import MlipError

ProductPrecision = Literal["highest", "tf32", "bf16"]
"""Of matrix products of float32 numbers: in full, or of factors rounded to TF32 (10 bits of mantissa) or bfloat16 (7
bits) and summed in float32, for which recent GPUs have units of their own. CPUs make all of them in full."""
_JAX_PRECISION = {"highest": "highest", "tf32": "tensorfloat32", "bf16": "BF16_BF16_F32"}

_compile_seconds: list[float] = []
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of mallopt(3)


def cache_folder() -> Path:
    """Where compiled programs are kept between runs: 'jax' in the folder of all that is kept."""
    return folder_of_caches() / "jax"


@cache
def set_up_jax() -> None:
    """Configure this process's JAX once: persistent compilation cache, and an ear for compilations."""
    if jax.config.jax_compilation_cache_dir is None:  # leave a user's own cache alone
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    _keep_freed_memory()
    jax.monitoring.register_event_duration_secs_listener(_record_compilation)


def _keep_freed_memory() -> None:
    """Let glibc keep what XLA frees instead of giving it back to the system and asking for it again each call.

    A program on the CPU allocates all its intermediate arrays at once, and the page faults of fresh memory
    took a third to a half of an evaluation's time. Other C libraries, and a user who set MALLOC_* himself, are
    left alone. The price is a process that stays as large as it once was.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc: macOS, musl, Windows
        return
    largest = 2**31 - 1
    for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, largest), (_M_TRIM_THRESHOLD, largest)):
        mallopt(parameter, value)


def _record_compilation(event: str, duration: float, **_) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compile_seconds.append(duration)


def compilation_seconds() -> float:
    """Total time that XLA has spent compiling (or fetching from the cache) in this process, s."""
    return sum(_compile_seconds)


def precision_scope(dtype: str) -> AbstractContextManager:
    """Within it JAX computes in `dtype` ("float32" or "float64"), whatever the global flag says.

    Everything that touches a float64 program (arguments made, calls, results read) belongs inside.

    Raises:
        MlipError: another dtype.
    """
    if dtype not in ("float32", "float64"):
        raise MlipError(f"unknown precision {dtype!r}", where="dtype", fix="float32 or float64")
    return jax.enable_x64(dtype == "float64")


def products_in(precision: ProductPrecision) -> AbstractContextManager:
    """Within it JAX traces matrix products of this precision, and their gradients', unless one says its own: those of
    positions and of basis functions of bonds are always made in full.

    Without it a GPU takes TF32 for float32 products, which costs three digits: precision is a decision here, not an
    accident.
    """
    return jax.default_matmul_precision(_JAX_PRECISION[precision])
