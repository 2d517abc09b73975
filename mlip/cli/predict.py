"""`mlip predict`: predict a property of formulas, of a table of formulas, or of the materials of a store."""

from pathlib import Path
from typing import Annotated

import typer

_SHOWN = 50


def predict(
    model: Annotated[Path, typer.Argument(help="A property model (.safetensors).")],
    materials: Annotated[
        list[str],
        typer.Argument(metavar="MATERIALS...", help="Formulas (Fe2O3), CSVs with a column of formulas, or stores."),
    ],
    out: Annotated[Path | None, typer.Option(help="Write a CSV file instead of printing a table.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace the CSV if it exists.")] = False,
) -> None:
    """Predict a property, with its uncertainty if the model has learned one.

    Exit status 1 if some material has no prediction; its row gives the reason.
    """
    from mlip.cli.tables import console, print_table
    from mlip.evaluation.property_predictions import predictions, write_predictions
    from mlip.files.output_paths import check_new
    from mlip.property_model import PropertyModel

    if out is not None:
        check_new(out, force=force)
    loaded = PropertyModel.load(model)
    found = predictions(loaded, materials, dtype)
    if out is not None:
        write_predictions(found, out)
    else:
        rows = [
            (one.name, *(None if number != number else number for number in (one.value, one.uncertainty)), one.reason)
            for one in found[:_SHOWN]
        ]
        print_table(console(), loaded.metadata.property, ("", "predicted", "uncertainty", ""), rows)
    n_failed = sum(bool(one.reason) for one in found)
    more = f", of which {_SHOWN} are shown" if out is None and len(found) > _SHOWN else ""
    typer.echo(f"{len(found):,} materials{more}; {n_failed:,} without a prediction" + (f": {out}" if out else ""))
    if n_failed:
        raise typer.Exit(1)
