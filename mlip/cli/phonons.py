"""`mlip phonons`: phonons of structures in files."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options
from mlip.cli.responses import known, numbers, run

_COLUMNS = {
    "lowest": ("lowest THz", ".3f"),
    "highest": ("highest THz", ".3f"),
    "imaginary_share": ("imaginary", ".1%"),
    "heat_capacity_300K": ("Cv(300 K) J/K/mol", ".2f"),
    "n_supercells": ("supercells", "d"),
}


def phonons(
    arguments: options.PotentialAndFiles,
    out: Annotated[
        Path, typer.Option(help="Folder for results.jsonl, and for report.html with bands and density of states.")
    ] = Path("phonons"),
    supercell: Annotated[
        str | None, typer.Option(help="Multiples of the cell vectors: 4,4,4. By default from --min-length.")
    ] = None,
    min_length: options.MinLength = 12.0,
    method: Annotated[
        str, typer.Option(help="displacements (forces of displaced supercells), or hessian (exact derivatives).")
    ] = "displacements",
    displacement: Annotated[float, typer.Option(help="Displacement of the atoms, A.")] = 0.01,
    temperatures: Annotated[
        str | None, typer.Option(help="Temperatures, K, separated by commas. By default 0 to 1000 in steps of 50.")
    ] = None,
    mesh: Annotated[
        float, typer.Option(help="Points along a reciprocal vector: this length, A, times the vector's.")
    ] = 100.0,
    relax: options.Relax = True,
    fmax: options.Fmax = 1e-4,
    steps: options.RelaxationSteps = 1000,
    dtype: options.ResponseDtype = None,
    force: options.Force = False,
    as_json: options.SummaryAsJson = False,
) -> None:
    """Phonons: frequencies, bands, density of states and thermal properties per cell. Requires phonopy.

    If the run is killed, the same command resumes it.

    Exit status 0 if every structure has phonons, all real; 1 if one has none or has a remark: imaginary, not_converged,
    or the reason of a failed relaxation; 2 if nothing was done.
    """
    multiples = numbers(supercell, "--supercell")
    settings = known(
        supercell=multiples and tuple(int(n) if n == int(n) else n for n in multiples),
        temperatures=numbers(temperatures, "--temperatures"),
    )
    settings |= {"min_length": min_length, "method": method, "displacement": displacement, "mesh": mesh}
    settings |= {"relax": relax, "fmax": fmax, "steps": steps}
    run("phonons", arguments, out, _COLUMNS, as_json=as_json, force=force, dtype=dtype, **settings)
