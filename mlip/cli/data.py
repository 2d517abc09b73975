"""`mlip data`: build a store, look into it, check it; `label` makes data where there are none."""

import typer

from mlip.cli.data_build import build
from mlip.cli.data_check import check
from mlip.cli.data_info import info
from mlip.cli.label import label

app = typer.Typer(help="Build, inspect and check data stores; label structures.", no_args_is_help=True)
for command in (build, info, check, label):
    app.command()(command)
