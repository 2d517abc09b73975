"""Parity plot at the end of a run: the exported potential on the first validation frames."""

from itertools import islice
from pathlib import Path

import numpy as np

from mlip.data import Store
from mlip.errors import MlipError
from mlip.evaluation.evaluate import evaluate, store_frames
from mlip.evaluation.frame_errors import Errors
from mlip.potential import Potential
from mlip.report.chart import Chart
from mlip.report.picture import save_charts
from mlip.training.log import RunLog
from mlip.training.report.predictions import parity_chart, points

_FRAMES = 2000
PARITY = {
    "energy": ("Energy", "energy without E0, eV/atom"),
    "forces": ("Forces", "force component, eV/Å"),
    "stress": ("Stress", "stress component, GPa"),
}
"""Caption and axis label of the parity chart of each quantity."""


def draw_parity(folder: Path, potential: Potential, store: Store, log: RunLog) -> None:
    """Write parity.png, or say why not if there are no validation frames with known elements."""
    errors = Errors()
    try:
        for head in potential.heads:
            frames = store_frames(store, "val", functional=head if len(potential.heads) > 1 else None)
            evaluate(potential.of_head(head), islice(frames, _FRAMES), errors=errors)
    except MlipError as error:  # the potential is finished: a missing picture must not fail the run
        log.say(f"no parity plot of the validation frames: {error.what}")
        return
    note = " (surrogate labels)" if errors.is_surrogate else ""
    save_charts(_charts(errors), folder / "parity.png", f"validation: {folder}{note}")


def _charts(errors: Errors) -> list[Chart]:
    """Charts of predictions against labels, one for each quantity with labels."""
    charts = []
    for name, (caption, label) in PARITY.items():
        if errors.points[name]:
            labels, predicted = (np.concatenate(values) for values in zip(*errors.points[name], strict=True))
            charts.append(parity_chart([points("validation", labels, predicted)], label, caption))
    return charts
