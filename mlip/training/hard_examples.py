"""Frames that cause spikes of the loss: hard_examples.jsonl of a run.

A spike is a step whose loss is several times the median of recent steps. Its worst structures are recorded with their
shares of the loss, to help clean the data: wrong labels are the usual reason.
"""

import math
import statistics
from collections import deque
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mlip.data import Store
from mlip.files.journal import Journal
from mlip.training import processes
from mlip.training.log import drop_after

HARD_EXAMPLES = "hard_examples.jsonl"
SPIKE = 5.0
"""Ratio of the loss to the median above which a step is a spike."""
_RECENT = 200  # steps over which the median is taken
_ENOUGH = 20  # steps before spikes are detected
_WORST = 8  # structures recorded for each spike


class HardExamples:
    """The file of one run in `folder`. Lines after step `resumed_from` are dropped, because these steps are
    repeated."""

    def __init__(self, folder: Path, store: Store, *, resumed_from: int = 0):
        self._path = folder / HARD_EXAMPLES
        self._store = store
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._usual = math.inf
        if processes.is_first():
            drop_after(self._path, resumed_from)

    def forget(self) -> None:
        """Discard the recent losses, because the loss weights have changed."""
        self._recent.clear()

    def is_spike(self, loss: float) -> bool:
        """Whether a step's loss is a spike; adds it to the recent losses. If the median is negative, which is possible
        for losses with an uncertainty, nothing is a spike."""
        self._usual = statistics.median(self._recent) if len(self._recent) >= _ENOUGH else math.inf
        self._recent.append(loss)
        return self._usual > 0 and loss > SPIKE * self._usual

    def record(self, step: int, loss: float, frames: Int[np.ndarray, " g"], losses: Float[np.ndarray, " g"]) -> str:
        """Record the spike that `is_spike` just found; returns a message about it.

        Args:
            frames: store indices of the step's structures.
            losses: contribution of each structure to the loss.
        """
        worst = np.argsort(-losses, kind="stable")[:_WORST]
        materials = [self._store.material(self._store.material_of(int(k))).id for k in frames[worst]]
        shares = losses[worst] / losses.sum()
        record = {
            "step": step,
            "loss": loss,
            "usual_loss": self._usual,
            "frames": frames[worst].tolist(),
            "materials": materials,
            "shares": [round(float(share), 4) for share in shares],
        }
        if processes.is_first():
            with Journal(self._path, durable=False) as journal:
                journal.append(record)
        return (
            f"step {step}: loss {loss:.3g} where {self._usual:.3g} is usual; {shares[0]:.0%} of it from frame "
            f"{frames[worst[0]]} ({materials[0]}); see {HARD_EXAMPLES}"
        )
