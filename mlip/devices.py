"""The devices of this process, taking turns: batches that need nothing of one another go to one after another.

Training is the other way to use several, where all work on one step (`mlip.training.parallel`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from itertools import cycle
from typing import Any

import jax


class Turn:
    """A device, with its own copy of arrays that all devices need."""

    def __init__(self, device: jax.Device | None, arrays: Any):
        self.device = device
        """None is the one that JAX takes by itself."""
        self._arrays = arrays

    @cached_property
    def arrays(self) -> Any:
        """The copy, made when it is asked for first."""
        return self._arrays if self.device is None else jax.device_put(self._arrays, self.device)

    @contextmanager
    def taken(self) -> Iterator[Any]:
        """Within it this thread's programs run on the device; gives its copy of the arrays."""
        with nullcontext() if self.device is None else jax.default_device(self.device):
            yield self.arrays


class Devices:
    """The devices of this process, each with a copy of some arrays, such as parameters."""

    def __init__(self, arrays: Any):
        devices = jax.local_devices()
        alone = [Turn(None, arrays)]  # the arrays stay where JAX has put them
        self._turns = alone if len(devices) == 1 else [Turn(device, arrays) for device in devices]

    def __len__(self) -> int:
        return len(self._turns)

    def turns(self) -> Iterator[Turn]:
        """One device after another, from the first, without end: a single batch always finds the same."""
        return cycle(self._turns)
