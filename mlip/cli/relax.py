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
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Relax structures; every frame of every file has its line in results.jsonl, in order.

    Exit status 0 when every structure has its record; the records say which relaxations failed, and why.
    """
    from mlip.relaxation.files import parse_cell_choice, relax_files

    summary = relax_files(
        potential,
        files,
        out,
        fmax=fmax,
        steps=steps,
        cell=parse_cell_choice(cell),
        dtype=dtype,
        progress=not as_json,
    )
    if as_json:
        import json

        print(json.dumps(summary))
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["reasons"].items())
    print(f"{summary['structures']} structures: {reasons}")
    print(f"{out / 'relaxed.extxyz'}, {out / 'results.jsonl'}")
