"""`mlip benchmark hull`: errors of predicted distances to the convex hull, and of the classification as stable."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options


def hull(
    store: Annotated[Path, typer.Argument(help="The store whose materials are judged.")],
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS...",
            help="Results of `mlip benchmark relaxation` on the store, or property models (.safetensors) that predict "
            "e_above_hull; NAME=PATH names the row.",
        ),
    ],
    references: Annotated[
        list[Path] | None,
        typer.Option(
            help="Reference phases of the hull: a store, or JSON of entries or formation energies; can be repeated. "
            "Default: the materials' own e_above_hull."
        ),
    ] = None,
    split: options.Split = "test",
    out: options.TableFolder = None,
    with_paper: options.WithPaper = False,
    allow_functional_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-functional-mismatch",
            help="Models, materials and references may be of several functionals or run types; the table says so.",
        ),
    ] = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Table 5 of the paper: errors of the distance to the hull, time, and precision and recall for stable materials."""
    from mlip.benchmark.hull_benchmark import run_hull_benchmark
    from mlip.benchmark.hull_table import hull_table
    from mlip.cli.tables import show_table

    predictions, notes = run_hull_benchmark(
        store, models, split=split, references=references or (), allow_functional_mismatch=allow_functional_mismatch
    )
    show_table(hull_table(predictions, notes, with_paper), out, as_json)
