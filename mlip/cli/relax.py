"""`mlip relax`: structures in files, relaxed."""

from pathlib import Path
from typing import Annotated

import typer


def relax(
    potential: Annotated[Path, typer.Argument(help="The potential, a .safetensors file.")],
    files: Annotated[list[Path], typer.Argument(help="Files that ASE reads: CIF, POSCAR, extxyz, db, ...")],
    out: Annotated[Path, typer.Option(help="Folder for relaxed.extxyz and results.jsonl.")],
    fmax: Annotated[float, typer.Option(help="Converged below this force, eV/A.")] = 0.05,
    steps: Annotated[int, typer.Option(help="At most so many steps.")] = 500,
    cell: Annotated[
        str, typer.Option(help="auto (periodic directions), all, none, or a Voigt mask such as 110001.")
    ] = "auto",
    symmetry: Annotated[bool, typer.Option("--symmetry", help="Keep each space group (found within 0.01 A).")] = False,
    pressure_gpa: Annotated[float, typer.Option(help="Relax to the least E + p V at this pressure, GPa.")] = 0.0,
    constant_volume: Annotated[
        bool, typer.Option("--constant-volume", help="Relax the shape of the cell, not its volume.")
    ] = False,
    min_distance: Annotated[float, typer.Option(help="Atoms closer than this have collapsed, A.")] = 0.5,
    max_strain: Annotated[float, typer.Option(help="A larger logarithmic strain is an explosion.")] = 1.0,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Relax structures; a run that was killed goes on where it stopped when it is started again.

    Each has a record in results.jsonl as soon as it ends; in the end all are in relaxed.extxyz, in order. Exit
    status 0 when every structure has its record; the records say which relaxations failed, and why.
    """
    from mlip.relaxation.files import parse_cell_choice, relax_files

    summary = relax_files(
        potential,
        files,
        out,
        fmax=fmax,
        steps=steps,
        cell=parse_cell_choice(cell),
        symmetry=symmetry,
        pressure_gpa=pressure_gpa,
        constant_volume=constant_volume,
        min_distance=min_distance,
        max_strain=max_strain,
        dtype=dtype,
        progress=not as_json,
    )
    if as_json:
        import json

        print(json.dumps(summary))
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["reasons"].items())
    print(f"{summary['structures']} structures ({summary['relaxed_now']} relaxed now): {reasons}")
    print(f"{out / 'relaxed.extxyz'}, {out / 'results.jsonl'}")
