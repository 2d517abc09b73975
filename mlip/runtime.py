"""How mlip sets up JAX: compilation cache, float64 on demand, precision of products, time spent compiling; and what is
known to be wrong with it.

`set_up_jax` is called by whatever is about to compile. At import a flag of XLA is set where JAX miscompiles: XLA reads
its flags once, when the first device is asked for.
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
"""Precision of matrix products of float32 numbers: in full, or of factors rounded to TF32 (10 bits of mantissa) or
bfloat16 (7 bits) and summed in float32, for which recent GPUs have units of their own. CPUs make all of them in
full."""
_JAX_PRECISION = {"highest": "highest", "tf32": "tensorfloat32", "bf16": "BF16_BF16_F32"}

_BROKEN_FUSION = ("0.10.2", "0.11.0")
"""Versions of jaxlib whose fusions by YNNPACK on the CPU give wrong sums (jax issue 39103: 0.10.2) or crash (39257:
both). 0.10.1 does not fuse so by default."""
_FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"

_compile_seconds: list[float] = []


def cache_folder() -> Path:
    """Where compiled programs are kept between runs: 'jax' in the folder of all that is kept."""
    return folder_of_caches() / "jax"


def set_up_jax() -> None:
    """Configure this process's JAX, once: persistent compilation cache, an ear for compilations; and start it.

    Raises:
        MlipError: there is no such device as JAX_PLATFORMS asks for; or the process was forked from one whose JAX ran
            already, where calls of JAX would wait for ever.
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
    if jax.config.jax_compilation_cache_dir is None:  # leave a user's own cache alone
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.monitoring.register_event_duration_secs_listener(_record_compilation)
    _start()


def _start() -> None:
    """Ask for the devices, upon which XLA reads its flags.

    Raises:
        MlipError: there are none as JAX_PLATFORMS asks for.
    """
    was_running = _is_running()
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where JAX has no plugin of that name
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
    """Whether JAX has started a backend: threads that no fork takes along, and flags that were read."""
    bridge = sys.modules.get("jax._src.xla_bridge")  # no public door tells this without starting one
    return bool(getattr(bridge, "_backends", None))


class _Forked:
    """Whether this process is a fork of one whose JAX ran."""

    from_running_jax = False

    @classmethod
    def note(cls) -> None:
        cls.from_running_jax = cls.from_running_jax or _is_running()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Forked.note)


class _FusionGuard:
    """Switches the broken fusion off by an environment variable, for as long as it takes XLA to read it: processes that
    are started from this one may have another JAX, which would stop at a flag that it does not know."""

    is_needed = jaxlib.__version__ in _BROKEN_FUSION
    users_flags: str | None = None
    """XLA_FLAGS as the user has it, while ours stands there."""
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
    """JSON for the record of whatever JAX computes: versions, and the flags that XLA reads or has read. Starts no JAX,
    which would take a GPU's memory from the workers that do compute."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _FusionGuard.is_set and _FUSION_FLAG not in flags:
        flags = f"{flags} {_FUSION_FLAG}=".strip()
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "xla_flags": flags}


def sums_are_right() -> bool:
    """Whether a compiled sum of squares of many products (matrix . row) is right on this device: that of jax issue
    39103, which was 0.2 % wrong from 16,385 rows of float64 and 32,769 of float32."""
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
