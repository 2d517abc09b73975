"""`mlip train`: train a potential or a property model by a recipe, or many by a sweep, with a table of results.

`mlip recipes` lists the recipes included in mlip, by the names that `mlip train` and `mlip screen` take.
"""

from typing import TYPE_CHECKING

import typer

from mlip.cli.output import console, print_table
from mlip.errors import MlipError

if TYPE_CHECKING:
    from mlip.training.sweep import SweepResult


def train(
    recipe: str = typer.Argument(help="YAML file, or a name that `mlip recipes` lists."),
    overrides: list[str] = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="Values that replace the recipe's, e.g. train.learning_rate=0.003."
    ),
    resume: bool = typer.Option(False, "--resume", help="Resume the run in the run folder."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Check recipe and data, time a few steps, print what would be done, write nothing."
    ),
    coordinator: str = typer.Option(
        None,
        envvar="MLIP_COORDINATOR",
        metavar="HOST:PORT",
        help="Address of process 0 if several train together; any free port.",
    ),
    processes: int = typer.Option(
        None, envvar="MLIP_PROCESSES", min=1, help="Number of processes that train together."
    ),
    process: int = typer.Option(None, envvar="MLIP_PROCESS", min=0, help="Index of this process, from 0."),
    sweep: str = typer.Option(
        None,
        help="YAML file (or its name) with keys and lists of values: train each combination, and print one table.",
    ),
    seeds: int = typer.Option(
        None,
        help="Train this number of potentials, with seeds 0, 1, ..., one after another, and make an ensemble.",
    ),
    learning_curve: str = typer.Option(
        None,
        "--learning-curve",
        metavar="N,N,...",
        help="Train a property model on each of these numbers of materials, nested sets; write a table and a figure.",
    ),
    cluster: str = typer.Option(
        None,
        help="Train a sweep, seeds or a learning curve side by side on Dask: tcp://HOST:PORT, "
        "slurm:JOBS,cores=16,..., or local:N.",
    ),
) -> None:
    """Train a potential or a property model by a recipe. All output of the run goes to its folder (out=).

    Several processes, on one or more hosts, can train one model together: start each with this same command, by srun or
    mpirun, or elsewhere with --coordinator, --processes and --process.
    """
    from mlip.training.dry_run import describe_plan
    from mlip.training.loop import train as run
    from mlip.training.processes import joined
    from mlip.training.recipe_file import load_recipe

    if learning_curve is not None:
        if sweep is not None or seeds is not None:
            raise MlipError("--sweep, --seeds and --learning-curve exclude each other")
        _learning_curve(recipe, overrides or (), learning_curve, cluster, dry_run=dry_run)
        return
    if seeds is not None:
        if sweep is not None:
            raise MlipError("--sweep and --seeds exclude each other", fix="a sweep may have train.seed: [0, 1, ...]")
        _seeds(recipe, overrides or (), seeds, cluster, dry_run=dry_run)
        return
    if sweep is not None:
        _sweep(recipe, overrides or (), sweep, cluster, dry_run=dry_run)
        return
    if cluster is not None:
        raise MlipError(
            "--cluster is for a sweep, seeds or a learning curve", fix="several devices of one run: see --coordinator"
        )
    resolved = load_recipe(recipe, overrides or ())
    if dry_run:
        typer.echo(describe_plan(resolved))
        return
    with joined(coordinator, processes, process):
        run(resolved, resume=resume)


def _sweep(recipe: str, overrides, sweep: str, cluster: str | None, *, dry_run: bool) -> None:
    from mlip.training.sweep import TABLE, plan_sweep, run_sweep, table_of

    runs = plan_sweep(recipe, overrides, sweep)
    if dry_run:
        typer.echo("\n".join(str(run.recipe.out) for run in runs))
        return
    results = run_sweep(runs, cluster=cluster, report=_tell)
    print_table(console(), f"validation of {len(results)} runs", *table_of(runs, results))
    typer.echo(f"table: {runs[0].recipe.out.parent / TABLE}")
    if failed := [result for result in results if result.error]:
        raise MlipError(f"{len(failed)} of {len(results)} runs failed, first: {failed[0].error}")


def _seeds(recipe: str, overrides, n_seeds: int, cluster: str | None, *, dry_run: bool) -> None:
    from mlip.training.seeds import plan_seeds, train_seeds
    from mlip.training.sweep import table_of

    runs = plan_seeds(recipe, overrides, n_seeds)
    if dry_run:
        typer.echo("\n".join(str(run.recipe.out) for run in runs))
        return
    path, results = train_seeds(runs, cluster=cluster, report=_tell)
    print_table(console(), f"validation of {len(results)} seeds", *table_of(runs, results))
    if failed := [result for result in results if result.error]:
        raise MlipError(f"{len(failed)} of {len(results)} seeds failed, first: {failed[0].error}")
    typer.echo(f"ensemble: {path}; mlip calibrate makes standard deviations of errors of its spread")


def _learning_curve(recipe: str, overrides, sizes: str, cluster: str | None, *, dry_run: bool) -> None:
    from mlip.training.learning_curve import FIGURE, TABLE, plan_learning_curve, run_learning_curve

    try:
        numbers = [int(size) for size in sizes.split(",")]
    except ValueError:
        raise MlipError(f"'{sizes}' is not numbers", where="--learning-curve", fix="e.g. 100,1000,10000") from None
    runs = plan_learning_curve(recipe, overrides, numbers)
    if dry_run:
        typer.echo("\n".join(str(run.recipe.out) for run in runs))
        return
    points = run_learning_curve(runs, cluster=cluster, report=_tell)
    rows = [(f"{p.materials:,}", p.split, p.evaluated, p.left_out, p.mae, p.relative) for p in points]
    name = runs[0].recipe.property.name
    print_table(
        console(),
        f"{name} against the number of training materials",
        ("materials", "split", "evaluated", "left out", "MAE", "MAE / mean"),
        rows,
    )
    typer.echo(f"table and figure: {runs[0].recipe.out.parent / TABLE}, {FIGURE}")
    if failed := [point for point in points if point.error]:
        raise MlipError(f"{len(failed)} of {len(points)} runs failed, first: {failed[0].error}")


def _tell(result: "SweepResult") -> None:
    if result.error:
        values = ", ".join(f"{key}={value}" for key, value in result.values.items())
        typer.echo(f"{values}: {result.error}", err=True)


def recipes(
    name: str = typer.Argument(None, help="Print this recipe, to read or to copy: mlip recipes mace-2d > mine.yaml."),
) -> None:
    """List the recipes, or print one."""
    from mlip.files.known_folders import packaged_files
    from mlip.recipe_reading import find_recipe

    if name is not None:
        typer.echo(find_recipe(name).read_text(encoding="utf-8"), nl=False)
        return
    known = packaged_files("recipes")
    width = max(map(len, known))
    for known_name, path in known.items():
        typer.echo(f"{known_name:{width}}  {first_sentence(path)}")


def first_sentence(path) -> str:
    """First sentence of the comment at the top of a recipe."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("# "):
            break
        comment.append(line.removeprefix("# ").strip())
    return " ".join(comment).split(": ")[0].split(". ")[0]
