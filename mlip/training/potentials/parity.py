"""The parity plot at the end of a run: the exported potential on the first validation frames."""

from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mlip.data import Store
from mlip.errors import MlipError
from mlip.evaluation.evaluate import evaluate, store_frames
from mlip.evaluation.frame_errors import Errors
from mlip.potential import Potential
from mlip.training.log import RunLog

_FRAMES = 2000
_LABELS = {"energy": "energy without E0 (eV/atom)", "forces": "force (eV/Å)", "stress": "stress (GPa)"}


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
    _plot(errors, folder / "parity.png", title=f"validation: {folder}")


def _plot(errors: Errors, path: Path, title: str) -> None:
    """Predictions against labels, a panel a quantity."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    note = " (surrogate labels)" if errors.is_surrogate else ""
    figure.suptitle(title + note)
    for axes, (name, label) in zip(figure.subplots(1, len(_LABELS)), _LABELS.items(), strict=True):
        axes.set(xlabel=f"reference {label}", ylabel="potential", aspect="equal")
        if not errors.points[name]:
            axes.set_title("no labels")
            continue
        reference, predicted = (np.concatenate(values) for values in zip(*errors.points[name], strict=True))
        axes.plot(reference, predicted, ".", markersize=2, alpha=0.4, rasterized=True)
        low, high = np.nanmin([reference, predicted]), np.nanmax([reference, predicted])
        axes.plot([low, high], [low, high], "k-", linewidth=0.7)
    figure.savefig(path, dpi=150)
