"""Training of one recipe with every combination of given values, such as the paper's grid of sub-sampling cutoffs and
batch sizes.

A sweep file maps keys of the recipe to lists of values. Each combination is a run in its own folder below the recipe's
`out`. Repeating a sweep resumes unfinished runs and skips finished ones.
"""

import csv
import itertools
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mlip.cluster.client import cluster_client, result_of
from mlip.code_version import CODE_VERSION, check_same_code
from mlip.errors import MlipError
from mlip.files.output_paths import make_folder
from mlip.files.whole_file import whole_file
from mlip.recipe_reading import find_recipe
from mlip.training.log import read_metrics
from mlip.training.loop import train
from mlip.training.recipe import Recipe
from mlip.training.recipe_file import load_recipe
from mlip.training.run_folder import RunFolder, check_same_recipe
from mlip.training.task import Task
from mlip.training.task_of_recipe import task_of

if TYPE_CHECKING:
    from distributed import Future

TABLE = "sweep.csv"
_MOST = 1_000
"""Largest number of runs; more indicate a mistake in the file."""


@dataclass(frozen=True)
class SweepRun:
    """One combination: the values that it sets, and its recipe."""

    values: dict[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class SweepResult:
    """Outcome of a run: the validation of its exported model, or the reason for a failure."""

    values: dict[str, Any]
    validation: dict[str, float]
    """Step, loss and MAEs in the units of metrics.jsonl; empty after an error or without validation frames."""
    error: str = ""


def plan_sweep(recipe: str | Path, overrides: Sequence[str], sweep: str | Path) -> list[SweepRun]:
    """Runs of a sweep, with all recipes checked.

    Raises:
        MlipError: one of the recipes cannot be run as written.
    """
    return plan_runs(recipe, overrides, _read_grid(find_recipe(sweep)))


def plan_runs(recipe: str | Path, overrides: Sequence[str], grid: dict[str, list]) -> list[SweepRun]:
    """Runs for all combinations of values in a grid, which maps keys of the recipe to values.

    Raises:
        MlipError: one of the recipes cannot be run as written.
    """
    first = load_recipe(recipe, [*overrides, *_overrides(next(_combinations(grid)))])
    out = first.out
    return [
        SweepRun(values, load_recipe(recipe, [*overrides, *_overrides(values), f"out={out / _name(values)}"]))
        for values in _combinations(grid)
    ]


def run_sweep(
    runs: Sequence[SweepRun], *, cluster: str | None = None, report: Callable[[SweepResult], None] = lambda _: None
) -> list[SweepResult]:
    """Train all runs, one after another or in parallel on Dask workers; a failing run does not stop the others.

    Rewrites `sweep.csv` in the parent of the runs' folders after each run.

    Args:
        cluster: name of a cluster as in `mlip.cluster.client`, with one device per worker; None uses this process.
        report: called with the result of each run when it ends.

    Raises:
        MlipError: the folder is not writable, or the scheduler is gone.
    """
    results: list[SweepResult] = []
    out = runs[0].recipe.out.parent
    make_folder(out)
    try:
        for result in _results(runs, cluster):
            results.append(result)
            _write_table(out / TABLE, results, _columns(task_of(runs[0].recipe)))
            report(result)
    except KeyboardInterrupt:
        done = f"{len(results)} of {len(runs)} runs of {out} have ended"
        raise KeyboardInterrupt(f"{done}; the same command goes on where it was") from None
    return results


def _results(runs: Sequence[SweepRun], cluster: str | None) -> Iterator[SweepResult]:
    if cluster is None:
        yield from map(_run_one, runs)
        return
    with cluster_client(cluster) as client:
        from distributed import as_completed

        def submit(run: SweepRun) -> "Future":
            return client.submit(_run_on_worker, run, CODE_VERSION, pure=False)

        futures, accused = {submit(run): run for run in runs}, []
        for future in as_completed(futures):
            if (result := _result_of(future, futures[future])) is None:
                accused.append(futures[future])
            else:
                yield result
        for run in accused:  # a dying worker takes all of its runs along: each is tried once more, alone
            yield _result_of(submit(run), run) or SweepResult(run.values, {}, "its worker was killed each time")


def _result_of(future: "Future", run: SweepRun) -> SweepResult | None:
    """Outcome of a run on a worker; None if every worker that had it died.

    Raises:
        MlipError: the scheduler is gone.
    """
    from distributed import KilledWorker

    try:
        return result_of(future)
    except KilledWorker:
        return None
    except MlipError as error:
        if future.cancelled():
            raise
        return SweepResult(run.values, {}, _reason(error))
    except Exception as error:  # from Dask, or not serializable: affects only this run
        return SweepResult(run.values, {}, _reason(error))


def _run_on_worker(run: SweepRun, version: str) -> SweepResult:
    check_same_code(version)
    return _run_one(run, quiet=True)


def _run_one(run: SweepRun, quiet: bool = False) -> SweepResult:
    folder = RunFolder(run.recipe.out)
    try:
        task = task_of(run.recipe)
        if folder.has_checkpoints() or (folder.path / task.file_name).exists():
            check_same_recipe(run.recipe, folder)
        if not _is_done(folder, task):
            train(run.recipe, resume=folder.has_checkpoints(), quiet=quiet)
        return SweepResult(run.values, _validation(folder, task))
    except Exception as error:  # any error affects only this run; the others continue
        if not isinstance(error, MlipError):
            traceback.print_exception(error)
        return SweepResult(run.values, {}, _reason(error))


def _reason(error: Exception) -> str:
    """Error message as one line."""
    what = " ".join(str(error).split())
    return what if isinstance(error, MlipError) else f"{type(error).__name__}: {what}".removesuffix(": ")


def _is_done(folder: RunFolder, task: Task) -> bool:
    """Whether the run has ended; a model written by `mlip export` does not count."""
    path = folder.path / task.file_name
    return path.exists() and "exported_after_step" not in task.load(path).metadata.provenance


def _validation(folder: RunFolder, task: Task) -> dict[str, float]:
    step = task.load(folder.path / task.file_name).metadata.provenance["step"]
    records = [record for record in read_metrics(folder.path, "validation") if record["step"] == step]
    return {key: records[-1][key] for key in _columns(task)} if records else {}


def _columns(task: Task) -> tuple[str, ...]:
    return ("step", "loss", *(quantity.error_key for quantity in task.quantities))


def table_of(runs: Sequence[SweepRun], results: Sequence[SweepResult]) -> tuple[tuple[str, ...], list[tuple]]:
    """Header and rows of the results for display; errors are in the units of the live table."""
    quantities = task_of(runs[0].recipe).quantities

    def row(result: SweepResult) -> tuple:
        validation = result.validation
        errors = (quantity.text(validation) if validation else None for quantity in quantities)
        return (*result.values.values(), validation.get("step"), validation.get("loss"), *errors)

    header = (*runs[0].values, "step", "loss", *(quantity.heading for quantity in quantities))
    return header, [row(result) for result in results]


def _read_grid(path: Path) -> dict[str, list]:
    try:
        grid = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise MlipError("no such sweep", where=str(path), fix="give the path of a YAML file") from None
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise MlipError(f"not readable as YAML: {' '.join(str(error).split())}", where=str(path)) from None
    lists = isinstance(grid, dict) and all(isinstance(values, list) and values for values in grid.values())
    if not lists or not grid:
        raise MlipError(
            "a sweep maps keys of the recipe to lists of values",
            where=str(path),
            fix='e.g. "train.batch_size: [32, 64]"',
        )
    if "out" in grid:
        raise MlipError("out is not swept: each run has a folder of its own below it", where=str(path))
    combinations = 1
    for values in grid.values():
        combinations *= len(values)
    if combinations > _MOST:
        raise MlipError(f"{combinations:,} runs", where=str(path), fix=f"at most {_MOST:,}")
    return grid


def _combinations(grid: dict[str, list]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _overrides(values: dict[str, Any]) -> list[str]:
    return [f"{key}={'null' if value is None else value}" for key, value in values.items()]


def _name(values: dict[str, Any]) -> str:
    """Folder name such as "store=pbesol_0.005,batch_size=64"; a path is reduced to its stem."""

    def short(value: Any) -> str:
        return Path(value).stem if isinstance(value, str) and "/" in value else str(value).replace("/", "_")

    keys = list(values)
    last = [key.rpartition(".")[2] for key in keys]
    unique = [name if last.count(name) == 1 else key for name, key in zip(last, keys, strict=True)]
    return ",".join(f"{name}={short(value)}" for name, value in zip(unique, values.values(), strict=True))


def _write_table(path: Path, results: Sequence[SweepResult], columns: Sequence[str]) -> None:
    with whole_file(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*results[0].values, *columns, "error"])
        for result in results:
            writer.writerow([*result.values.values(), *map(result.validation.get, columns), result.error])
