"""`mlip benchmark properties`: errors of property models."""

from pathlib import Path
from typing import Annotated

import typer


def properties(
    store: Annotated[Path, typer.Argument(help="The store whose materials are predicted.")],
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS...", help="Property models (.safetensors), of any properties; NAME=PATH names the row."
        ),
    ],
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Folder to write the table to, as Markdown, CSV and LaTeX.")] = None,
    allow_functional_mismatch: Annotated[
        bool,
        typer.Option("--allow-functional-mismatch", help="Labels may be of another functional; the table says so."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers as JSON.")] = False,
) -> None:
    """Tables 1 and 2 of the paper: mean and standard deviation of each property, MAE, and MAE over the mean."""
    from mlip.benchmark.property_benchmark import run_property_benchmark
    from mlip.cli.tables import show_table

    table = run_property_benchmark(store, models, split=split, allow_functional_mismatch=allow_functional_mismatch)
    show_table(table, out, as_json)
