"""`mlip relax`: relax structures in files."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mlip.cli import options

_FEW = 40
"""Number of structures up to which the table shows all; for more it only shows those that failed."""


class StructureFormat(StrEnum):
    """File formats of relaxed structures."""

    extxyz = "extxyz"
    cif = "cif"
    vasp = "vasp"


def relax(
    arguments: options.PotentialAndFiles,
    out: Annotated[Path, typer.Option(help="Folder for relaxed.extxyz and results.jsonl.")] = Path("relaxed"),
    fmax: options.Fmax = 0.05,
    smax: Annotated[
        float | None,
        typer.Option(
            help="... and the residual stress is below this, GPa. By default forces alone decide, as in ASE.",
            metavar="GPA",
        ),
    ] = None,
    steps: options.Steps = 500,
    cell: Annotated[
        str,
        typer.Option(
            help="Which part of the cell relaxes: auto (periodic directions), hydrostatic (volume only), all, none, or"
            " a mask of xx yy zz yz xz xy: 110001."
        ),
    ] = "auto",
    symmetry: Annotated[
        bool, typer.Option("--symmetry", help="Keep the space group of each structure (found within 0.01 A).")
    ] = False,
    pressure_gpa: Annotated[float, typer.Option(help="Relax at this pressure, GPa; positive compresses.")] = 0.0,
    constant_volume: Annotated[
        bool, typer.Option("--constant-volume", help="Relax the shape of the cell, not its volume.")
    ] = False,
    min_distance: Annotated[
        float | None,
        typer.Option(help="Atoms closer than this have collapsed, A. By default the covalent radii decide."),
    ] = None,
    max_strain: Annotated[float, typer.Option(help="A cell whose logarithmic strain is larger has exploded.")] = 1.0,
    dtype: options.Dtype = None,
    formats: Annotated[
        list[StructureFormat] | None,
        typer.Option(
            "--format",
            help="Also write each relaxed structure to a file of its own: cif, vasp (repeatable). By default as the"
            " inputs are. extxyz: only relaxed.extxyz, with all of them.",
        ),
    ] = None,
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="Write every step to trajectories/; takes longer.")
    ] = False,
    force: options.Force = False,
    as_json: options.SummaryAsJson = False,
) -> None:
    """Relax structures. If the run is killed, the same command resumes it.

    A line for each structure is written to results.jsonl as soon as it is done: why it stopped, energy, forces, stress.
    At the end, relaxed.extxyz has all structures in their order. Structures that came as CIF or POSCAR are also written
    in that format. A structure that cannot be read or relaxed does not stop the others.

    Exit status 0 if every structure converged or used up its steps; 1 if at least one failed (it could not be read, or
    it collapsed, exploded, fell apart or gave NaN); 2 if nothing was done.
    """
    from mlip.pretrained import split_potential
    from mlip.relaxation.relax_files import USABLE, formats_like, parse_cell_choice, relax_files

    potential, files = split_potential(arguments)
    kinds = formats_like(files) if formats is None else [kind.value for kind in formats]
    if not as_json:
        introduce(potential)
    summary = relax_files(
        potential,
        files,
        out,
        formats=kinds,
        force=force,
        fmax=fmax,
        smax_gpa=smax,
        steps=steps,
        cell=parse_cell_choice(cell),
        symmetry=symmetry,
        pressure_gpa=pressure_gpa,
        constant_volume=constant_volume,
        min_distance=min_distance,
        max_strain=max_strain,
        dtype=dtype,
        trajectory=trajectory,
        progress=not as_json,
    )
    rows = summary.pop("rows")
    failed = [row for row in rows if row["reason"] not in USABLE]
    if as_json:
        import json

        print(json.dumps(summary | {"failed": failed}))
    else:
        _print(summary, rows if len(rows) <= _FEW else failed, out, kinds)
    if failed or summary["not_written"]:
        raise typer.Exit(1)


def introduce(potential: str) -> None:
    """Print which named potential is used, its functional and its license."""
    from mlip.pretrained.registry import find, is_known

    if potential.startswith("ase:"):
        print(f"{potential}: one structure after another; its functional and license are its maker's to tell")
    elif is_known(potential):
        entry = find(potential)
        print(f"{entry.name}: functional {entry.functional}, license {entry.license.id} (mlip models {entry.name})")


def _print(summary: dict[str, Any], rows: list[dict[str, Any]], out: Path, kinds: list[str]) -> None:
    import sys

    from mlip.cli.output import console, print_table

    shown = console(width=None if sys.stdout.isatty() else 160)  # wide enough for logs
    if rows:
        header = ("structure", "formula", "reason", "steps", "dE\neV/atom", "dV\n%", "fmax\neV/A", "stress\nGPa")
        is_sure = any("energy_std" in row for row in rows)
        header += ("std\neV/atom", "std\nV %", "") if is_sure else ()
        cells = [_cells(row) + (_certainty(row) if is_sure else ()) for row in rows]
        print_table(shown, "", header, cells, whole=header[1:], box=None, pad_edge=False)  # fits in 80 columns
    for row in rows:
        if row["message"]:
            print(f"{place(row)}: {row['reason']}: {row['message']}")
    for fault in summary["not_written"]:
        print(f"not written: {fault}")
    print(f"{out / 'relaxed.extxyz'}, {out / 'results.jsonl'}")
    for kind in kinds:
        if kind != "extxyz" and (written := sorted((out / kind).glob(f"*.{kind}"))):
            print(written[0] if len(written) == 1 else f"{out / kind}: {len(written)} files")
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["reasons"].items())
    doubtful = f"; {summary['do_not_trust']} not to be trusted" if "do_not_trust" in summary else ""
    print(f"{summary['structures']} structures ({summary['relaxed_now']} relaxed now): {reasons}{doubtful}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    formats = {"energy_change": "+.4f", "volume_change": "+.2f", "fmax": ".4f", "stress": ".3f"}
    numbers = ("-" if row[key] is None else format(row[key], kind) for key, kind in formats.items())
    return Path(place(row)).name, row["formula"], row["reason"], str(row["steps"]), *numbers


def _certainty(row: dict[str, Any]) -> tuple[str, ...]:
    """Table cells with the uncertainty of a relaxed structure."""
    energy_std, volume_std = row.get("energy_std"), row.get("volume_std")
    return (
        "-" if energy_std is None else f"{energy_std:.3f}",
        "-" if volume_std is None else f"{volume_std:.1f}",
        "do not trust" if row.get("do_not_trust") else "",
    )


def place(row: Mapping[str, Any]) -> str:
    """File of a row's structure, with the frame's index if it is not the first."""
    return row["file"] if not row["frame"] else f"{row['file']}@{row['frame']}"
