"""Training of one recipe with several seeds, and the ensemble of the resulting potentials."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mlip.errors import MlipError
from mlip.models import heads_of
from mlip.potential import Potential
from mlip.training.sweep import SweepResult, SweepRun, plan_runs, run_sweep
from mlip.training.task_of_recipe import task_of
from mlip.uncertainty.ensembles import ensemble

ENSEMBLE = "ensemble.safetensors"
"""Name of the ensemble's file in the parent of the runs' folders."""


def plan_seeds(recipe: str | Path, overrides: Sequence[str], n_seeds: int) -> list[SweepRun]:
    """Runs with seeds from 0, which replace the recipe's seed; each has its own folder below the recipe's `out`.

    Raises:
        MlipError: there are fewer than two seeds, or the recipe is invalid, for a property model, or for several heads.
    """
    if n_seeds < 2:
        raise MlipError(f"{n_seeds} seeds are no ensemble", where="--seeds", fix="2 or more; 4 are usual")
    runs = plan_runs(recipe, overrides, {"train.seed": list(range(n_seeds))})
    first = runs[0].recipe
    if first.property is not None:
        raise MlipError("ensembles are of potentials, and this is a property model's", where=f"--seeds, {recipe}")
    if len(heads := heads_of(first.model)) > 1:
        raise MlipError(f"ensembles are of one head, and this has {', '.join(heads)}", where=f"--seeds, {recipe}")
    return runs


def train_seeds(
    runs: Sequence[SweepRun], *, cluster: str | None = None, report: Callable[[SweepResult], None] = lambda _: None
) -> tuple[Path | None, list[SweepResult]]:
    """Train all runs with `run_sweep`, which skips finished ones, then write the ensemble into the parent of their
    folders.

    Returns:
        The ensemble's file, or None if a run failed; and the outcome of each run.

    Raises:
        MlipError: the folder is not writable, or the scheduler is gone.
    """
    results = run_sweep(runs, cluster=cluster, report=report)
    if any(result.error for result in results):
        return None, results
    task = task_of(runs[0].recipe)
    files = [run.recipe.out / task.file_name for run in runs]
    together = ensemble([Potential.load(file) for file in files], [file.parent.name for file in files])
    return together.save(runs[0].recipe.out.parent / ENSEMBLE), results
