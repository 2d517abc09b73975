"""`mlip benchmark properties`: errors of property models."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options


def properties(
    store: Annotated[Path, typer.Argument(help="The store whose materials are predicted.")],
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS...", help="Property models (.safetensors), of any properties; NAME=PATH names the row."
        ),
    ],
    split: options.Split = "test",
    out: options.TableFolder = None,
    allow_functional_mismatch: options.LabelMismatch = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Tables 1 and 2 of the paper: mean and standard deviation of each property, MAE, and MAE over the mean."""
    from mlip.benchmark.property_benchmark import run_property_benchmark
    from mlip.cli.tables import show_table

    table = run_property_benchmark(store, models, split=split, allow_functional_mismatch=allow_functional_mismatch)
    show_table(table, out, as_json)
