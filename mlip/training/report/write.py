"""`mlip report`: a run as one page that needs nothing else, from its folder and the store that it learnt from."""

import html
from pathlib import Path

from mlip.evaluation.split_errors import SplitErrors, evaluate_split
from mlip.potential import Potential
from mlip.report.page import write_page
from mlip.training.report.error_sections import elements_section, error_table, histograms, parity_plots
from mlip.training.report.record_sections import hard_examples_section, health_section, learning_curves, summary_section
from mlip.training.report.records import RunRecords, open_run
from mlip.training.report.worst_materials import worst_materials


def write_report(folder: Path, out: Path, *, store: Path | None = None, at_most: int = 2000) -> list[SplitErrors]:
    """Write the report of the run in `folder` to `out`; of a run that has not ended, what there is of it.

    Args:
        store: where the run's store is now, if not where its recipe says.
        at_most: frames of each of the splits "val" and "test" that the exported potential is evaluated on.

    Returns:
        What was evaluated.

    Raises:
        MlipError: no run in the folder; its store is not there, or is another.
    """
    run = open_run(folder)
    splits = _evaluated(run, store, at_most)
    sections = {
        "Run": summary_section(run) + (error_table(splits) if splits else ""),
        "Learning curves": learning_curves(run),
    }
    if splits:
        sections |= {
            "Parity": parity_plots(splits),
            "Errors by element": elements_section(splits),
            "Distribution of errors": histograms(splits),
            "Worst materials": worst_materials(splits),
        }
    sections |= {"Speed and health": health_section(run)}
    if hard_examples := hard_examples_section(run):
        sections |= {"Hard examples": hard_examples}
    sections |= {"Recipe": f"<pre>{html.escape(run.recipe_text)}</pre>"}
    name = run.folder.path.resolve().name
    write_page(out, f"{run.recipe.model.model}: {name}", f"training run {run.folder.path.resolve()}", sections)
    return splits


def _evaluated(run: RunRecords, path: Path | None, at_most: int) -> list[SplitErrors]:
    if not isinstance(run.model, Potential):
        return []
    with run.open_store(path) as store:
        found = (evaluate_split(run.model, store, split, at_most) for split in ("val", "test"))
        return [split for split in found if split is not None]
