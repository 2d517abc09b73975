"""Configuration of JAX: compilation cache, float64 on demand, precision of matrix products, compilation time, and
workarounds for bugs in JAX.

Call `set_up_jax` before anything compiles. If this version of JAX miscompiles, importing this module sets a flag of
XLA, because XLA reads its flags only once, when a device is first requested.
"""

import os
import sys
import warnings
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Literal

import jax
import jax.monitoring
import jaxlib
import numpy as np

from mlip.errors import MlipError
from mlip.files.known_folders import cache_folder as folder_of_caches

ProductPrecision = Literal["highest", "tf32", "bf16"]
"""Precision of matrix products of float32 numbers: full, or with factors rounded to TF32 (10 bits of mantissa) or
bfloat16 (7 bits) and summed in float32, for which recent GPUs have special units. CPUs always compute in full
precision."""
_JAX_PRECISION = {"highest": "highest", "tf32": "tensorfloat32", "bf16": "BF16_BF16_F32"}

_BROKEN_FUSION = ("0.10.2", "0.11.0")
"""Versions of jaxlib whose YNNPACK fusions on the CPU give wrong sums (jax issue 39103: 0.10.2) or crash (39257: both).
0.10.1 does not use these fusions by default."""
_FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"

_compile_seconds: list[float] = []


def cache_folder() -> Path:
    """Folder that keeps compiled programs between runs: 'jax' in mlip's cache folder."""
    return folder_of_caches() / "jax"


def set_up_jax() -> None:
    """Configure JAX in this process, once: persistent compilation cache and recording of compilation times; then start
    JAX.

    Raises:
        MlipError: JAX_PLATFORMS names a device that does not exist; or this process was forked from one in which JAX
            had started, so that calls of JAX would hang.
    """
    if _Forked.from_running_jax:
        raise MlipError(
            "this process was forked from one that had used JAX, which does not survive a fork",
            where="multiprocessing",
            fix='start workers with multiprocessing.get_context("spawn"), or "forkserver"',
        )
    _set_up_once()


@cache
def _set_up_once() -> None:
    if jax.config.jax_compilation_cache_dir is None:  # keep a cache that the user configured
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.monitoring.register_event_duration_secs_listener(_record_compilation)
    _start()


def _start() -> None:
    """Request the devices, upon which XLA reads its flags.

    Raises:
        MlipError: the devices in JAX_PLATFORMS do not exist.
    """
    was_running = _is_running()
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError if JAX has no plugin of that name
        told = str(error).splitlines()[0] if str(error) else "JAX has no plugin for it"
        raise MlipError(
            f"JAX cannot start: {told}",
            where=f"JAX_PLATFORMS={jax.config.jax_platforms or ''}",
            fix="unset JAX_PLATFORMS to take what there is, or install JAX for that device",
        ) from None
    _FusionGuard.leave_environment_alone()
    if was_running and _FusionGuard.is_needed and devices[0].platform == "cpu" and not sums_are_right():
        warnings.warn(
            f"JAX {jax.__version__} computes some sums wrong on the CPU, and was in use before mlip was: "
            f"load a potential or `import mlip.runtime` first, or set XLA_FLAGS={_FUSION_FLAG}=",
            stacklevel=2,
        )


def _is_running() -> bool:
    """Whether JAX has started a backend; it then has threads, which do not survive a fork, and has read its flags."""
    bridge = sys.modules.get("jax._src.xla_bridge")  # no public function tells this without starting a backend
    return bool(getattr(bridge, "_backends", None))


class _Forked:
    """Records whether this process was forked from one in which JAX had started."""

    from_running_jax = False

    @classmethod
    def note(cls) -> None:
        cls.from_running_jax = cls.from_running_jax or _is_running()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Forked.note)


class _FusionGuard:
    """Disables the broken fusion with an environment variable, which is restored once XLA has read it: child processes
    may use another version of JAX, which would stop at an unknown flag."""

    is_needed = jaxlib.__version__ in _BROKEN_FUSION
    users_flags: str | None = None
    """The user's value of XLA_FLAGS, saved while the variable holds ours."""
    is_set = False

    @classmethod
    def set(cls) -> None:
        flags = os.environ.get("XLA_FLAGS")
        if cls.is_needed and _FUSION_FLAG not in (flags or "") and not _is_running():
            cls.users_flags, cls.is_set = flags, True
            os.environ["XLA_FLAGS"] = f"{flags or ''} {_FUSION_FLAG}=".strip()

    @classmethod
    def leave_environment_alone(cls) -> None:
        if cls.is_set and os.environ.get("XLA_FLAGS", "").endswith(f"{_FUSION_FLAG}="):
            if cls.users_flags is None:
                del os.environ["XLA_FLAGS"]
            else:
                os.environ["XLA_FLAGS"] = cls.users_flags


_FusionGuard.set()


def jax_facts() -> dict[str, str]:
    """Versions of JAX and the flags that XLA reads or has read, for records of computations. Does not start JAX, which
    would take GPU memory from the workers that compute."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _FusionGuard.is_set and _FUSION_FLAG not in flags:
        flags = f"{flags} {_FUSION_FLAG}=".strip()
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "xla_flags": flags}


def sums_are_right() -> bool:
    """Whether a compiled sum of squares of many products (matrix times row) is correct on this device. Tests jax issue
    39103, with errors of 0.2 % from 16,385 rows of float64 and 32,769 of float32."""
    for dtype, n_rows in (("float64", 16_385), ("float32", 32_769)):
        rows, unit = np.zeros((n_rows, 3), dtype), np.eye(3, dtype=dtype)
        rows[:, 0] = np.arange(n_rows)
        with precision_scope(dtype), products_in("highest"):
            squares = jax.jit(jax.vmap(lambda row, unit=unit: ((unit @ row) ** 2).sum()))(rows)
            if not np.allclose(squares, rows[:, 0] ** 2, rtol=1e-6, atol=0):
                return False
    return True


def _record_compilation(event: str, duration: float, **_) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compile_seconds.append(duration)


def compilation_seconds() -> float:
    """Total time that XLA has spent compiling (or fetching from the cache) in this process, s."""
    return sum(_compile_seconds)


def precision_scope(dtype: str) -> AbstractContextManager:
    """Context manager in which JAX computes in `dtype` ("float32" or "float64"), whatever the global flag says.

    Everything that involves a float64 program (creating arguments, calls, reading results) belongs inside.

    Raises:
        MlipError: the dtype is unknown.
    """
    if dtype not in ("float32", "float64"):
        raise MlipError(f"unknown precision {dtype!r}", where="dtype", fix="float32 or float64")
    return jax.enable_x64(dtype == "float64")


def products_in(precision: ProductPrecision) -> AbstractContextManager:
    """Context manager in which JAX traces matrix products and their gradients in this precision, unless a product
    specifies its own: those of positions and of basis functions of bonds always use full precision.

    By default a GPU computes float32 products in TF32, which costs three digits; the precision is set explicitly here.
    """
    return jax.default_matmul_precision(_JAX_PRECISION[precision])
