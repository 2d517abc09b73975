"""`mlip eos`, `mlip elastic` and `mlip phonons`: responses of structures in files to strain and displacement."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mlip.cli import options
from mlip.cli.output import console, print_table
from mlip.cli.relax import introduce, place

_FEW = 40
"""Number of structures up to which the table shows all; for more it only shows those with a remark."""

_EOS_COLUMNS = {
    "volume": ("V0 A^3", ".3f"),
    "energy": ("E0 eV", ".4f"),
    "bulk_modulus": ("B0 GPa", ".2f"),
    "bulk_modulus_derivative": ("B0'", ".2f"),
    "residual": ("residual eV", ".1e"),
}
_ELASTIC_COLUMNS = {
    "bulk_hill": ("K GPa", ".2f"),
    "shear_hill": ("G GPa", ".2f"),
    "young": ("E GPa", ".2f"),
    "poisson": ("Poisson", ".3f"),
    "anisotropy": ("anisotropy", ".2f"),
    "residual": ("residual GPa", ".3f"),
}
_PHONONS_COLUMNS = {
    "lowest": ("lowest THz", ".3f"),
    "highest": ("highest THz", ".3f"),
    "imaginary_share": ("imaginary", ".1%"),
    "heat_capacity_300K": ("Cv(300 K) J/K/mol", ".2f"),
    "n_supercells": ("supercells", "d"),
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
    settings = _known(volumes=_numbers(volumes, "--volumes"))
    settings |= {"relax_ions": ions, "relax_shape": shape, "relax": relax, "fmax": fmax, "steps": steps}
    _run("eos", arguments, out, _EOS_COLUMNS, as_json=as_json, force=force, dtype=dtype, **settings)


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
    settings = _known(
        normal_strains=_numbers(normal_strains, "--normal-strains"),
        shear_strains=_numbers(shear_strains, "--shear-strains"),
    )
    settings |= {"relax_ions": ions, "symmetry": symmetry, "relax": relax, "fmax": fmax, "steps": steps}
    _run("elastic", arguments, out, _ELASTIC_COLUMNS, as_json=as_json, force=force, dtype=dtype, **settings)


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
    multiples = _numbers(supercell, "--supercell")
    settings = _known(
        supercell=multiples and tuple(int(n) if n == int(n) else n for n in multiples),
        temperatures=_numbers(temperatures, "--temperatures"),
    )
    settings |= {"min_length": min_length, "method": method, "displacement": displacement, "mesh": mesh}
    settings |= {"relax": relax, "fmax": fmax, "steps": steps}
    _run("phonons", arguments, out, _PHONONS_COLUMNS, as_json=as_json, force=force, dtype=dtype, **settings)


def _run(
    kind: str,
    arguments: Sequence[str],
    out: Path,
    columns: Mapping[str, tuple[str, str]],
    *,
    as_json: bool,
    **settings: Any,
) -> None:
    """Compute and print; exits with status 1 if a structure has a remark.

    Args:
        columns: key of a record -> title and format of its column.
        settings: keyword arguments of `mlip.response.response_files.respond_to_files`.
    """
    from mlip.pretrained import split_potential
    from mlip.response.response_files import is_failure, respond_to_files

    potential, files = split_potential(arguments)
    if not as_json:
        introduce(potential)
    summary = respond_to_files(kind, potential, files, out, progress=not as_json, **settings)
    records = summary.pop("records")
    remarked = [record for record in records if is_failure(record)]
    if as_json:
        import json

        told = ("structure", "file", "frame", "formula", "reason", "message")
        failed = [{key: record[key] for key in told} for record in remarked]
        print(json.dumps(summary | {"failed": failed}))
    else:
        _print(summary, records if len(records) <= _FEW else remarked, columns, out)
    if remarked:
        raise typer.Exit(1)


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Parse numbers separated by commas; None if the option was not given.

    Raises:
        MlipError: the text is not a list of numbers.
    """
    from mlip.errors import MlipError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise MlipError(f"is {text!r}", where=option, fix="numbers separated by commas") from None


def _known(**given: Any) -> dict[str, Any]:
    """The options that were given; the library has defaults for the others."""
    return {name: value for name, value in given.items() if value is not None}


def _print(summary: dict[str, Any], records, columns: Mapping[str, tuple[str, str]], out: Path) -> None:
    import sys

    shown = console(width=None if sys.stdout.isatty() else 160)  # wide enough for logs
    if records:
        header = ("structure", "formula", "reason", *(title for title, _ in columns.values()))
        print_table(shown, "", header, [_cells(record, columns) for record in records])
    for record in records:
        if record["message"]:
            print(f"{place(record)}: {record['reason']}: {record['message']}")
    print(", ".join(str(path) for path in (out / "results.jsonl", summary["page"]) if path))
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["reasons"].items())
    print(f"{summary['structures']} structures ({summary['computed_now']} computed now): {reasons}")


def _cells(record: Mapping[str, Any], columns: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    values = (record.get(key) for key in columns)
    shown = (
        "-" if value is None else format(value, kind) for value, (_, kind) in zip(values, columns.values(), strict=True)
    )
    return Path(place(record)).name, record["formula"], record["reason"], *shown
