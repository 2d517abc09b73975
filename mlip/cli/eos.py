"""`mlip eos`: equations of state of structures in files."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options
from mlip.cli.responses import known, numbers, run

_COLUMNS = {
    "volume": ("V0 A^3", ".3f"),
    "energy": ("E0 eV", ".4f"),
    "bulk_modulus": ("B0 GPa", ".2f"),
    "bulk_modulus_derivative": ("B0'", ".2f"),
    "residual": ("residual eV", ".1e"),
}


def eos(
    arguments: options.PotentialAndFiles,
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl and the curves, report.html.")] = Path("eos"),
    volumes: Annotated[
        str | None,
        typer.Option(help="Volumes relative to the start, separated by commas. By default seven from 0.94 to 1.06."),
    ] = None,
    shape: Annotated[bool, typer.Option("--shape", help="Relax the shape of the cell at each volume, too.")] = False,
    ions: Annotated[bool, typer.Option("--ions/--no-ions", help="Relax positions at each volume.")] = True,
    relax: options.Relax = True,
    fmax: options.Fmax = 1e-3,
    steps: options.RelaxationSteps = 1000,
    dtype: options.ResponseDtype = None,
    force: options.Force = False,
    as_json: options.SummaryAsJson = False,
) -> None:
    """Equations of state: energies at several volumes, and the Birch-Murnaghan curve through them.

    Volumes and energies are per cell. If the run is killed, the same command resumes it.

    Exit status 0 if every structure has a curve; 1 if one has none or has a remark: no_minimum (not within the
    volumes), not_converged, or the reason of a failed relaxation; 2 if nothing was done.
    """
    settings = known(volumes=numbers(volumes, "--volumes"))
    settings |= {"relax_ions": ions, "relax_shape": shape, "relax": relax, "fmax": fmax, "steps": steps}
    run("eos", arguments, out, _COLUMNS, as_json=as_json, force=force, dtype=dtype, **settings)
