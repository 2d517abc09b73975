"""`mlip dft`: hand structures over to VASP, or to a surrogate, and collect the results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mlip.dft.records import Outcome

app = typer.Typer(help="Hand structures over to DFT, and collect the results.", no_args_is_help=True)
_SHOWN = 20


@app.command()
def write(
    structures: Annotated[list[str], typer.Argument(help="Files that ASE reads: CIF, POSCAR, extxyz, ...")],
    out: Annotated[Path, typer.Option(help="Folder of the hand-over; new structures are added to an existing one.")],
    recipe: Annotated[
        str, typer.Option(help="YAML file with a section `dft`, or a name that `mlip recipes` lists.")
    ] = "dft/pbe",
    dimensionality: Annotated[
        int | None, typer.Option(min=1, max=3, help="3: crystals, 2: layers, 1: chains.  [default: by their vacuum]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts as JSON.")] = False,
) -> None:
    """Write inputs for VASP, a folder for each structure, or relax with a surrogate (kind: ase).

    Exit status 1 if some file or frame cannot be read; the others are written.
    """
    from mlip.dft.files import HandOverRecipe, write_files
    from mlip.recipe_reading import read_recipe

    resolved = read_recipe(recipe, HandOverRecipe).dft
    written = write_files(structures, resolved, out, dimensionality=dimensionality, progress=not as_json)
    if as_json:
        import json

        unreadable = [{"file": one.file, "frame": one.frame, "message": one.message} for one in written.unreadable]
        print(json.dumps({"out": str(out), "structures": written.n_structures, "unreadable": unreadable}))
    else:
        for one in written.unreadable:
            print(f"{one.file}{'' if one.frame is None else f'@{one.frame}'}: {one.message}")
        print(f"{out}: structures: {written.n_structures}; table.csv lists them")
    if written.unreadable:
        raise typer.Exit(1)


@app.command()
def collect(
    folder: Annotated[Path, typer.Argument(help="Folder of a hand-over.")],
    out: Annotated[Path, typer.Option(help="Store for the relaxed structures with their labels, *.h5.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a store that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each structure's outcome as JSON.")] = False,
) -> None:
    """Collect the results: finished calculations are written to a store, and for all others the reason is shown.

    Exit status 1 if some have failed; calculations that have not started or still run do not count as failed.
    """
    from mlip.dft.files import PENDING, collect_into_store
    from mlip.dft.records import FINISHED

    outcomes = collect_into_store(folder, out, force=force)
    failed = [one for one in outcomes if one.reason not in (FINISHED, *PENDING)]
    if as_json:
        import json

        print(json.dumps([_record(one) for one in outcomes]))
    else:
        _show(outcomes, failed, out)
    if failed:
        raise typer.Exit(1)


def _record(outcome: "Outcome") -> dict:
    return {
        "id": outcome.id,
        "reason": outcome.reason,
        "message": outcome.message,
        "functional": outcome.functional,
        "energy": None if outcome.frame is None else outcome.frame.energy,
        "steps": outcome.n_steps,
        "source": outcome.source,
        "follow_ups": dict(outcome.follow_ups),
    }


def _show(outcomes: "list[Outcome]", failed: "list[Outcome]", out: Path) -> None:
    from mlip.cli.output import console, print_rows
    from mlip.dft.files import counted
    from mlip.dft.records import FINISHED

    counts = counted(outcomes)
    print_rows(console(), f"{len(outcomes):,} structures", list(counts.items()))
    for one in failed[:_SHOWN]:
        print(f"{one.id}: {one.reason}{one.message and f': {one.message}'}")
    if len(failed) > _SHOWN:
        print(f"... and {len(failed) - _SHOWN} more: --json tells of all")
    for one in outcomes:
        if one.reason == FINISHED and one.message:
            print(f"{one.id}: {one.message}")
    if finished := counts.get(FINISHED, 0):
        functionals = ", ".join(sorted({one.functional for one in outcomes if one.reason == FINISHED}))
        print(f"{out}: relaxed structures: {finished}, functional: {functionals}")
    else:
        print("nothing has finished: no store is written")
