"""`mlip elastic`: elastic tensors of structures in files."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options
from mlip.cli.responses import known, numbers, run

_COLUMNS = {
    "bulk_hill": ("K GPa", ".2f"),
    "shear_hill": ("G GPa", ".2f"),
    "young": ("E GPa", ".2f"),
    "poisson": ("Poisson", ".3f"),
    "anisotropy": ("anisotropy", ".2f"),
    "residual": ("residual GPa", ".3f"),
}


def elastic(
    arguments: options.PotentialAndFiles,
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl.")] = Path("elastic"),
    normal_strains: Annotated[
        str | None, typer.Option(help="Strains xx, yy, zz, separated by commas. By default -0.01,-0.005,0.005,0.01.")
    ] = None,
    shear_strains: Annotated[
        str | None,
        typer.Option(help="Strains yz, xz, xy (half of the engineering strain); the same format and default."),
    ] = None,
    ions: Annotated[bool, typer.Option("--ions/--no-ions", help="Relax positions in each strained cell.")] = True,
    symmetry: Annotated[
        bool,
        typer.Option(
            "--symmetry/--no-symmetry",
            help="Apply one of the strains that are equivalent by the point group; else all.",
        ),
    ] = True,
    relax: options.Relax = True,
    fmax: options.Fmax = 1e-4,
    steps: options.RelaxationSteps = 1000,
    dtype: options.ResponseDtype = None,
    force: options.Force = False,
    as_json: options.SummaryAsJson = False,
) -> None:
    """Elastic tensors (GPa; Voigt order xx yy zz yz xz xy) and moduli by Voigt, Reuss and Hill; the table has Hill's.

    If the run is killed, the same command resumes it.

    Exit status 0 if every structure has a tensor and is stable; 1 if one has none or has a remark: unstable,
    not_converged, or the reason of a failed relaxation; 2 if nothing was done.
    """
    settings = known(
        normal_strains=numbers(normal_strains, "--normal-strains"),
        shear_strains=numbers(shear_strains, "--shear-strains"),
    )
    settings |= {"relax_ions": ions, "symmetry": symmetry, "relax": relax, "fmax": fmax, "steps": steps}
    run("elastic", arguments, out, _COLUMNS, as_json=as_json, force=force, dtype=dtype, **settings)
