"""`mlip benchmark suite`: many short benchmarks of a potential, in one page, one JSON file and one table row."""

import json
from pathlib import Path
from typing import Annotated

import typer


def suite(
    name: Annotated[
        str,
        typer.Argument(
            help="all, or one of relaxation, eos, elasticity, phonons, pressure, low-dimensional, dimers.",
        ),
    ],
    potential: Annotated[
        str,
        typer.Argument(help="The potential: a .safetensors file, a name, `default`, or ase:MODULE:CLASS?key=value."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.html, suites.json, suites.md and one folder per suite.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer structures: minutes for an M3GNet on two cores.")
    ] = False,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="A store, or JSON with labels; each suite takes what it can use (pressure: P000, P025, ...). By "
            "default the built-in structures of the suites. Repeat the option for more."
        ),
    ] = None,
    compare: Annotated[
        list[Path] | None, typer.Option(help="suites.json of another run to compare with; can be repeated.")
    ] = None,
    allow_functional_mismatch: Annotated[
        bool, typer.Option("--allow-functional-mismatch", help="References may be of another functional.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the row as JSON.")] = False,
) -> None:
    """Benchmark a potential: relaxed volumes, equations of state, elasticity, phonons, pressure, layers, chains,
    dimers.

    Exit status 0 if every suite was run, 1 if one of `all` could not be run; the results of the others are still
    written.
    """
    from mlip.benchmark.suites.rows import read_row
    from mlip.benchmark.suites.run import run_suites
    from mlip.cli.tables import console

    run = run_suites(
        name,
        potential,
        out,
        quick=quick,
        data=data or (),
        others=[read_row(path) for path in compare or ()],
        allow_functional_mismatch=allow_functional_mismatch,
        progress=not as_json,
    )
    if as_json:
        print(json.dumps(run.row))
    else:
        shown = console()
        shown.print(run.table.to_rich(shown.width))
        for one, why in run.failed.items():
            shown.print(f"{one} left out: {why}", soft_wrap=True)
        shown.print(f"Page, row and tables: {out}", soft_wrap=True)
    if run.failed:
        raise typer.Exit(1)
