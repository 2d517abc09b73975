"""`mlip eos`: equations of state of structures in files."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli.responses import Arguments, AsJson, Dtype, Force, Relax, Steps, known, numbers, run

_COLUMNS = {
    "volume": ("V0 A^3", ".3f"),
    "energy": ("E0 eV", ".4f"),
    "bulk_modulus": ("B0 GPa", ".2f"),
    "bulk_modulus_derivative": ("B0'", ".2f"),
    "residual": ("residual eV", ".1e"),
}


def eos(
    arguments: Arguments,
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl and the curves, report.html.")] = Path("eos"),
    volumes: Annotated[
        str | None,
        typer.Option(help="Volumes relative to the start, separated by commas. By default seven from 0.94 to 1.06."),
    ] = None,
    shape: Annotated[bool, typer.Option("--shape", help="Relax the shape of the cell at each volume, too.")] = False,
    ions: Annotated[bool, typer.Option("--ions/--no-ions", help="Relax positions at each volume.")] = True,
    relax: Relax = True,
    fmax: Annotated[float, typer.Option(help="Converged when all forces are below this, eV/A.")] = 1e-3,
    steps: Steps = 1000,
    dtype: Dtype = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Equations of state: energies at several volumes, and the Birch-Murnaghan curve through them.

    Volumes and energies are per cell. If the run is killed, the same command resumes it.

    Exit status 0 if every structure has a curve; 1 if one has none or has a remark: no_minimum (not within the
    volumes), not_converged, or the reason of a failed relaxation; 2 if nothing was done.
    """
    options = known(volumes=numbers(volumes, "--volumes"))
    options |= {"relax_ions": ions, "relax_shape": shape, "relax": relax, "fmax": fmax, "steps": steps}
    run("eos", arguments, out, _COLUMNS, as_json=as_json, force=force, dtype=dtype, **options)
