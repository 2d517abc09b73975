"""The parity plot at the end of a run: the exported potential on the first validation frames."""

from itertools import islice
from pathlib import Path

from mlip.data import Store
from mlip.errors import MlipError
from mlip.evaluation.evaluate import evaluate, store_frames
from mlip.evaluation.frame_errors import Errors
from mlip.potential import Potential
from mlip.training.log import RunLog
from mlip.training.report.plots import plot_parity

_FRAMES = 2000


def draw_parity(folder: Path, potential: Potential, store: Store, log: RunLog) -> None:
    """Write parity.png; without validation frames that the potential knows, say why not."""
    errors = Errors()
    try:
        for head in potential.heads:
            frames = store_frames(store, "val", functional=head if len(potential.heads) > 1 else None)
            evaluate(potential.of_head(head), islice(frames, _FRAMES), errors=errors)
    except MlipError as error:  # the potential is made: a missing picture does not fail the run
        log.say(f"no parity plot of the validation frames: {error.what}")
        return
    plot_parity(errors, folder, title=f"validation: {folder}")
