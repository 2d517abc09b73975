"""The devices of this process, for independent batches that are distributed over them in turn.

Training uses several devices differently: all work on the same step (`mlip.training.parallel`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from itertools import cycle
from typing import Any

import jax


class Turn:
    """One device, with its own copy of arrays that every device needs."""

    def __init__(self, device: jax.Device | None, arrays: Any):
        self.device = device
        """The device; None means JAX's default device."""
        self._arrays = arrays

    @cached_property
    def arrays(self) -> Any:
        """This device's copy of the arrays, made on first access."""
        return self._arrays if self.device is None else jax.device_put(self._arrays, self.device)

    @contextmanager
    def taken(self) -> Iterator[Any]:
        """Context manager that runs this thread's programs on the device and yields the device's copy of the arrays."""
        with nullcontext() if self.device is None else jax.default_device(self.device):
            yield self.arrays


class Devices:
    """The devices of this process, each with a copy of some arrays, such as parameters."""

    def __init__(self, arrays: Any):
        devices = jax.local_devices()
        alone = [Turn(None, arrays)]  # the arrays stay where JAX has placed them
        self._turns = alone if len(devices) == 1 else [Turn(device, arrays) for device in devices]

    def __len__(self) -> int:
        return len(self._turns)

    def turns(self) -> Iterator[Turn]:
        """Endless cycle over the devices, starting at the first, so that a single batch always runs on the same one."""
        return cycle(self._turns)
