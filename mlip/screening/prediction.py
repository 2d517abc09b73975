"""Predictions for one prototype with many assignments, in batches of one shape that keep the device busy."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Array, Float, Int

from mlip.graph.prototype import SharedGraph
from mlip.hardware import hardware
from mlip.property_model import PropertyModel, property_outputs
from mlip.runtime import set_up_jax

_SMALLEST, _LARGEST = 16, 2048
"""Bounds on the number of crystals in a batch."""


class Predictor:
    """A property model with its parameters on each device."""

    def __init__(self, model: PropertyModel):
        set_up_jax()
        self._model = model
        self._turns = model.on_devices("float32").turns()
        self._slots = hardware().screening_slots

    def predict(self, prototype: SharedGraph, numbers: Int[np.ndarray, "k sites"]) -> Float[np.ndarray, " k"]:
        """Predicted property of the prototype with these atomic numbers on its sites, in the property's unit."""
        outputs = list(self._outputs(prototype, numbers))
        metadata = self._model.metadata
        values = np.concatenate([np.asarray(output)[:, 0] for output in outputs])[: len(numbers)] if outputs else []
        return np.asarray(values, float) * metadata.std + metadata.mean

    def _outputs(self, prototype: SharedGraph, numbers: Int[np.ndarray, "k sites"]) -> Iterator[Float[Array, "c 2"]]:
        """Network outputs for each batch, dispatched asynchronously so that the host prepares the next batch meanwhile.
        The last batch is padded to full size."""
        size = self._batch_size(prototype)
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            filling = np.repeat(chosen[-1:], size - len(chosen), axis=0)
            with next(self._turns).taken() as params:
                yield property_outputs(self._model.model, params, prototype.batch(np.concatenate([chosen, filling])))

    def _batch_size(self, prototype: SharedGraph) -> int:
        """Number of crystals in a batch; a power of two, so that few shapes are compiled."""
        fits = self._slots // max(prototype.n_slots, 1)
        return int(np.clip(1 << max(fits, 1).bit_length() - 1, _SMALLEST, _LARGEST))
