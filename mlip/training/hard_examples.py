"""Which frames make the loss jump: hard_examples.jsonl of a run.

A step whose loss is several times the median of the last ones is a spike. Its worst structures are written down with
their shares of the loss, for whoever cleans the data: wrong labels are the usual reason.
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
"""Times the median."""
_RECENT = 200  # steps whose median is what is usual
_ENOUGH = 20  # steps before which nothing is usual
_WORST = 8  # structures of a spike that are written down


class HardExamples:
    """The file of one run, in `folder`. Lines after step `resumed_from` are dropped: these steps are done again."""

    def __init__(self, folder: Path, store: Store, *, resumed_from: int = 0):
        self._path = folder / HARD_EXAMPLES
        self._store = store
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._usual = math.inf
        if processes.is_first():
            drop_after(self._path, resumed_from)

    def forget(self) -> None:
        """Forget the usual losses: the weights are others now."""
        self._recent.clear()

    def is_spike(self, loss: float) -> bool:
        """Whether a step's loss is one; it counts among the recent ones from now on. Losses below zero, which pay for
        an uncertainty, have no size that could be multiplied: they have no spikes."""
        self._usual = statistics.median(self._recent) if len(self._recent) >= _ENOUGH else math.inf
        self._recent.append(loss)
        return self._usual > 0 and loss > SPIKE * self._usual

    def record(self, step: int, loss: float, frames: Int[np.ndarray, " g"], losses: Float[np.ndarray, " g"]) -> str:
        """Write down the spike that was just found; returns a line that tells of it.

        Args:
            frames: store indices of the step's structures.
            losses: what each of them added to the loss.
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
