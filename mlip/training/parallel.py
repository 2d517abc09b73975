"""Runs one program on every device of every process; the only part of training that deals with devices directly.

It works like `jax.pmap`, which with several processes disassembles and reassembles every array of the state at each
step.

The state is replicated, a batch has a leading axis over this process's devices, and sums with `sum_over_devices`
include all processes. A single device runs the same program with an axis of length 1.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "devices"
_ONE_EACH = PartitionSpec(_AXIS)


def n_devices() -> int:
    """Number of devices of this process."""
    return jax.local_device_count()


def describe_devices() -> str:
    """Description such as "1 cpu", "4 gpu (NVIDIA H200)", "8 gpu (NVIDIA H200) of 2 processes"."""
    device = jax.local_devices()[0]
    kind = "" if device.device_kind == device.platform else f" ({device.device_kind})"
    of_processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{jax.device_count()} {device.platform}{kind}{of_processes}"


def parallelize(function: Callable, *, donate: tuple[int, ...] = (), broadcast: tuple[int, ...] = ()) -> Callable:
    """Run `function` on every device at once; each argument and result gains a leading axis over this process's
    devices.

    The buffers of the arguments in `donate` are reused for the result, so they must not be read afterwards. The
    arguments in `broadcast` are the same on all devices and have no device axis.
    """

    def on_a_device(*arguments: Any) -> Any:
        own = [x if place in broadcast else jax.tree.map(lambda a: a[0], x) for place, x in enumerate(arguments)]
        return jax.tree.map(lambda a: a[None], function(*own))

    n_arguments = len(inspect.signature(function).parameters)
    specs = tuple(PartitionSpec() if place in broadcast else _ONE_EACH for place in range(n_arguments))
    mapped = jax.shard_map(on_a_device, mesh=_mesh(), in_specs=specs, out_specs=_ONE_EACH, check_vma=False)
    program = jax.jit(mapped, donate_argnums=donate)
    if jax.process_count() == 1:
        return program
    return lambda *arguments: program(*map(_on_devices, arguments, specs))


def _mesh() -> Mesh:
    """One-dimensional mesh of all devices of all processes."""
    return Mesh(np.array(jax.devices()), (_AXIS,))


def _on_devices(tree: Any, spec: PartitionSpec) -> Any:
    """Put host arrays on the devices; device arrays are returned unchanged."""
    sharding = NamedSharding(_mesh(), spec)
    return jax.tree.map(
        lambda x: x if isinstance(x, jax.Array) else jax.make_array_from_process_local_data(sharding, x), tree
    )


def sum_over_devices(tree: Any) -> Any:
    """Sum every leaf over all devices of all processes, inside a parallelized function."""
    return jax.lax.psum(tree, _AXIS)


def device_key(seed: jax.Array) -> jax.Array:
    """Random key that differs between all devices of all processes, for use inside a parallelized function."""
    return jax.random.fold_in(jax.random.key(seed), jax.lax.axis_index(_AXIS))


def cut(batch: Any, n_parts: int) -> Any:
    """Reshape a batch made for `n_parts` times as many devices into parts that each device processes in turn."""
    if n_parts == 1:
        return batch
    return jax.tree.map(lambda array: array.reshape(-1, n_parts, *array.shape[1:]), batch)


def replicate(tree: Any) -> Any:
    """Copy a tree to each device, for the first argument of a parallelized function.

    The arrays have the layout of that function's results; with host arrays, the second step would be traced and
    compiled again.
    """
    copies = jax.tree.map(lambda x: np.broadcast_to(x, (n_devices(), *np.shape(x))), tree)
    return _on_devices(copies, _ONE_EACH)


def fetch(tree: Any) -> Any:
    """First device's copy of a replicated tree, as NumPy arrays that are safe from later buffer donation."""
    return jax.tree.map(lambda x: np.array(np.asarray(x.addressable_data(0))[0]), tree)


def fetch_all(x: jax.Array) -> np.ndarray:
    """Values of all devices of this process, concatenated."""
    shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def copy_of_first(tree: Any) -> Any:
    """Arrays of process 0 in all processes, on the host, bit for bit.

    Args:
        tree: NumPy arrays; in the other processes only shapes and dtypes matter, and must be the same.
    """
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    flat = np.frombuffer(b"".join(leaf.tobytes() for leaf in leaves), np.uint8)
    ends = np.cumsum([leaf.nbytes for leaf in leaves])
    parts = np.split(np.asarray(multihost_utils.broadcast_one_to_all(flat)), ends[:-1])
    arrays = [part.view(leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, arrays)
