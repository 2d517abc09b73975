"""`mlip report`: a self-contained HTML page about a run, from its folder and its store."""

import html
from pathlib import Path

from mlip.report.page import write_page
from mlip.training.report.predictions import PredictionReport
from mlip.training.report.record_sections import hard_examples_section, health_section, learning_curves, summary_section
from mlip.training.report.run_records import RunRecords, open_run


def write_run_page(folder: Path, out: Path, *, store: Path | None = None, at_most: int = 2000) -> str:
    """Write the report of the run in `folder` to `out`; an unfinished run gives a partial report.

    Args:
        store: current location of the run's store, if it differs from the recipe.
        at_most: largest number of structures of each of the splits "val" and "test" on which the exported model is
            evaluated.

    Returns:
        Description of what was evaluated; empty if nothing was.

    Raises:
        MlipError: the folder holds no run, or the store does not exist or has other content.
    """
    run = open_run(folder)
    predictions = _predictions(run, store, at_most)
    sections = {
        "Run": summary_section(run) + (predictions.table if predictions else ""),
        "Learning curves": learning_curves(run),
        **(predictions.sections if predictions else {}),
        "Speed and health": health_section(run),
    }
    if hard_examples := hard_examples_section(run):
        sections |= {"Hard examples": hard_examples}
    sections |= {"Recipe": f"<pre>{html.escape(run.recipe_text)}</pre>"}
    name = run.folder.path.resolve().name
    write_page(out, f"{run.recipe.model.model}: {name}", f"training run {run.folder.path.resolve()}", sections)
    return f"the {run.task.noun} on {', '.join(predictions.evaluated)}" if predictions else ""


def _predictions(run: RunRecords, path: Path | None, at_most: int) -> PredictionReport | None:
    if run.model is None:
        return None
    with run.open_store(path) as store:
        return run.task.report_predictions(run.model, store, at_most)
