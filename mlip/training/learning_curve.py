"""Learning curve of a property model: error against the size of the training set, as a table and a figure.

The runs form a sweep over `property.materials`. The training sets are nested. Each run has its own folder; repeating
the command resumes unfinished runs and skips finished ones, and runs may be sent to workers of a cluster. Errors are
those of the exported models on the test split, next to the mean absolute value of its labels.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mlip.data import Store
from mlip.errors import MlipError
from mlip.evaluation.property_errors import evaluate_property
from mlip.files.output_paths import writing_to
from mlip.property_model import PropertyModel
from mlip.training.recipe_file import load_recipe
from mlip.training.sweep import SweepResult, SweepRun, plan_runs, run_sweep
from mlip.training.task_of_recipe import task_of

SIZE = "property.materials"
TABLE, FIGURE = "learning_curve.csv", "learning_curve.png"
_SPLITS = ("test", "val")
"""Splits for the errors; the first one with labels is used."""


@dataclass(frozen=True)
class CurvePoint:
    """Errors of the model trained on this number of materials."""

    materials: int
    split: str = ""
    evaluated: int = 0
    """Number of materials of the split that were predicted."""
    left_out: int = 0
    """Number of materials that could not be predicted, e.g. with elements that the training set lacks."""
    mae: float | None = None
    mean: float | None = None
    """Mean absolute value of the labels."""
    error: str = ""
    """Reason if the run failed."""

    @property
    def relative(self) -> float | None:
        """MAE divided by the mean absolute value of the labels."""
        return self.mae / self.mean if self.mae is not None and self.mean else None


def plan_learning_curve(recipe: str | Path, overrides: Sequence[str], sizes: Sequence[int]) -> list[SweepRun]:
    """Runs of the learning curve, smallest training set first.

    Raises:
        MlipError: sizes are missing or repeated, the recipe is not for a property model, or it is invalid.
    """
    if not sizes or len(set(sizes)) < len(sizes) or min(sizes) < 1:
        raise MlipError("takes different numbers of materials", where="--learning-curve", fix="e.g. 100,1000,10000")
    if load_recipe(recipe, overrides).property is None:
        raise MlipError("is for recipes of property models", where="--learning-curve", fix="--sweep for others")
    return plan_runs(recipe, overrides, {SIZE: sorted(sizes)})


def run_learning_curve(
    runs: Sequence[SweepRun], *, cluster: str | None = None, report: Callable[[SweepResult], None] = lambda _: None
) -> list[CurvePoint]:
    """Train all models with `run_sweep`, and write the table and the figure into the parent of the runs' folders.

    Raises:
        MlipError: the folder is not writable, or the scheduler is gone.
    """
    results = {result.values[SIZE]: result for result in run_sweep(runs, cluster=cluster, report=report)}
    points = [_point(run, results[run.values[SIZE]]) for run in runs]
    out = runs[0].recipe.out.parent
    write_table(points, out / TABLE)
    if any(point.relative for point in points):
        plot(points, out / FIGURE, runs[0].recipe.property.name)
    return points


def _point(run: SweepRun, result: SweepResult) -> CurvePoint:
    size = run.values[SIZE]
    if result.error:
        return CurvePoint(size, error=result.error)
    model = PropertyModel.load(run.recipe.out / task_of(run.recipe).file_name)
    with Store(*run.recipe.data.stores) as store:
        for split in _SPLITS:
            errors = evaluate_property(model, store, split, largest=run.recipe.property.largest)
            if errors.ids:
                return CurvePoint(
                    size, split, len(errors.ids), sum(errors.left_out.values()), errors.mae, errors.mean_label
                )
    return CurvePoint(size, error="no material of the test or the validation split can be compared")


def write_table(points: Sequence[CurvePoint], path: Path) -> None:
    """Write the fields of the points and the ratio of error to mean as CSV."""
    with writing_to(path), path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(field.name for field in fields(CurvePoint)), "mae_over_mean"])
        writer.writerows([*asdict(point).values(), point.relative] for point in points)


def plot(points: Sequence[CurvePoint], path: Path, name: str) -> None:
    """Plot the MAE over the mean absolute label against the number of training materials, on logarithmic axes."""
    from matplotlib.figure import Figure

    known = [point for point in points if point.relative]
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([point.materials for point in known], [point.relative for point in known], "o-")
    axes.set(xscale="log", yscale="log", xlabel="training materials", ylabel=f"MAE / mean of |{name}|", title=name)
    axes.grid(which="both", alpha=0.3)
    with writing_to(path):
        figure.savefig(path, dpi=150)
