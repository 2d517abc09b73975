"""A recipe of a property model on training sets of growing size: error against size, one table and one figure.

The runs are those of a sweep over `property.materials`: the sets are nested, each run has a folder, is resumed or left
alone when the command is repeated, and may go to workers of a cluster. Errors are those of the exported models on the
test split, beside the mean absolute value of its labels.
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
"""Splits that errors are of: the first that has labels."""


@dataclass(frozen=True)
class CurvePoint:
    """Errors of the model that learned from so many materials."""

    materials: int
    split: str = ""
    evaluated: int = 0
    """Materials of the split that were predicted."""
    left_out: int = 0
    """Those that could not be, such as with elements that the training set lacks."""
    mae: float | None = None
    mean: float | None = None
    """Mean of the labels' absolute values."""
    error: str = ""
    """Why the run failed."""

    @property
    def relative(self) -> float | None:
        """MAE over the mean absolute label."""
        return self.mae / self.mean if self.mae is not None and self.mean else None


def plan_learning_curve(recipe: str | Path, overrides: Sequence[str], sizes: Sequence[int]) -> list[SweepRun]:
    """The runs, smallest set first.

    Raises:
        MlipError: no sizes, or one twice; a recipe of a potential; anything in it that cannot be run as written.
    """
    if not sizes or len(set(sizes)) < len(sizes) or min(sizes) < 1:
        raise MlipError("takes different numbers of materials", where="--learning-curve", fix="e.g. 100,1000,10000")
    if load_recipe(recipe, overrides).property is None:
        raise MlipError("is for recipes of property models", where="--learning-curve", fix="--sweep for others")
    return plan_runs(recipe, overrides, {SIZE: sorted(sizes)})


def run_learning_curve(
    runs: Sequence[SweepRun], *, cluster: str | None = None, report: Callable[[SweepResult], None] = lambda _: None
) -> list[CurvePoint]:
    """Train them all as `run_sweep` does, and write table and figure above the runs' folders.

    Raises:
        MlipError: nothing can be written there, or the scheduler is gone.
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
    """CSV: the fields of the points, and the error over the mean."""
    with writing_to(path), path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(field.name for field in fields(CurvePoint)), "mae_over_mean"])
        writer.writerows([*asdict(point).values(), point.relative] for point in points)


def plot(points: Sequence[CurvePoint], path: Path, name: str) -> None:
    """MAE over the mean absolute label against the number of training materials, both axes logarithmic."""
    from matplotlib.figure import Figure

    known = [point for point in points if point.relative]
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([point.materials for point in known], [point.relative for point in known], "o-")
    axes.set(xscale="log", yscale="log", xlabel="training materials", ylabel=f"MAE / mean of |{name}|", title=name)
    axes.grid(which="both", alpha=0.3)
    with writing_to(path):
        figure.savefig(path, dpi=150)
