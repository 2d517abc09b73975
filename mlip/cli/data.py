"""`mlip data`: fetch data sets, build a store, look into it, check it; `label` makes data where there are none."""

import typer

from mlip.cli.data_build import build
from mlip.cli.data_check import check
from mlip.cli.data_fetch import fetch
from mlip.cli.data_info import info
from mlip.cli.label import label

app = typer.Typer(help="Fetch data sets; build, inspect and check stores; label structures.", no_args_is_help=True)
for command in (build, fetch, info, check, label):
    app.command()(command)
