"""`mlip data`: fetch data sets; build, inspect, check and export stores; label structures with a calculator."""

import typer

from mlip.cli.data_build import build
from mlip.cli.data_check import check
from mlip.cli.data_curvature import curvature
from mlip.cli.data_export import export
from mlip.cli.data_fetch import fetch
from mlip.cli.data_info import info
from mlip.cli.data_relabel import relabel
from mlip.cli.label import label

app = typer.Typer(
    help="Fetch data sets; build, inspect, check and export stores; label structures.", no_args_is_help=True
)
for command in (build, fetch, info, check, export, label, relabel, curvature):
    app.command()(command)
