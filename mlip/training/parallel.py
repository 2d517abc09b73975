"""One program on every local device: all that the rest of the project knows of `jax.pmap`.

State is replicated, a batch has a leading axis of devices, sums go through `sum_over_devices`. One device is
the same program with an axis of length 1.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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
    """A copy on each device, for the first argument of a parallelised function.

    It lies as that function leaves its results: from host arrays the second step would be traced and compiled anew.
    """
    devices = np.array(jax.local_devices())
    one_each = NamedSharding(Mesh(devices, (_AXIS,)), PartitionSpec(_AXIS))
    return jax.tree.map(lambda x: jax.device_put(np.broadcast_to(x, (len(devices), *np.shape(x))), one_each), tree)


def fetch(tree: Any) -> Any:
    """The first device's copy of a replicated tree as numpy arrays that later donations cannot touch."""
    return jax.tree.map(lambda x: np.array(x.addressable_data(0)[0]), tree)
