"""One program on every local device: all that the rest of the project knows of `jax.pmap`.

State is replicated, a batch has a leading axis of devices, sums go through `sum_over_devices`. One device is
the same program with an axis of length 1.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

_AXIS = "devices"


def n_devices() -> int:
    """Devices of this process."""
    return jax.local_device_count()


def describe_devices() -> str:
    """E.g. "1 cpu", "4 gpu (NVIDIA H200)"."""
    device = jax.local_devices()[0]
    kind = "" if device.device_kind == device.platform else f" ({device.device_kind})"
    return f"{n_devices()} {device.platform}{kind}"


def parallelise(function: Callable, *, donate: tuple[int, ...] = ()) -> Callable:
    """`function` on every device at once; each argument and result gains a leading axis of devices.

    The buffers of the arguments `donate` are reused for the result: they must not be read afterwards.
    """
    return jax.pmap(function, axis_name=_AXIS, donate_argnums=donate)


def sum_over_devices(tree: Any) -> Any:
    """Inside a parallelised function: every leaf summed over all devices of all processes."""
    return jax.lax.psum(tree, _AXIS)


def replicate(tree: Any) -> Any:
    """Host arrays with a leading axis of devices, for the first argument of a parallelised function."""
    n = n_devices()
    return jax.tree.map(lambda x: np.broadcast_to(x, (n, *np.shape(x))), tree)


def fetch(tree: Any) -> Any:
    """The first device's copy of a replicated tree as numpy arrays that later donations cannot touch."""
    return jax.tree.map(lambda x: np.array(x.addressable_data(0)[0]), tree)
