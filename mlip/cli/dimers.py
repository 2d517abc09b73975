"""`mlip benchmark dimers`: does a potential keep atoms apart, for every pair of elements?"""

import json
from pathlib import Path
from typing import Annotated

import typer


def dimers(
    potential: Annotated[
        Path, typer.Argument(help="The potential: a .safetensors file, or a name; `default` is the default.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for curves.jsonl, dimers.png, the tables and summary.json.")
    ] = None,
    elements: Annotated[
        str | None, typer.Option(help="Symbols, separated by commas. Default: all elements of the potential.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 if a pair fails.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Dimers of all pairs of elements, from the cutoff down to 0.2 A.

    A pair passes if energies and forces are finite and, below half the sum of the covalent radii, repulsive. The last
    line tells the share of pairs without a hole between 0.5 A and the first bond.
    """
    from mlip.benchmark.dimer_report import (
        describe_scan,
        dimer_figure,
        dimer_table,
        element_table,
        holes_line,
        write_records,
    )
    from mlip.benchmark.dimers import scan_dimers
    from mlip.cli.tables import console
    from mlip.potential import open_potential
    from mlip.pretrained import declared_name
    from mlip.runtime import jax_facts

    scan = scan_dimers(open_potential(potential), elements and elements.split(","), dtype=dtype, progress=not as_json)
    name = declared_name(potential.name)
    table = dimer_table(scan, name)
    summary = {**scan.summary(), "by_element": scan.by_element(), "jax": jax_facts()}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_records(scan, out / "curves.jsonl")
        dimer_figure(scan, name).savefig(out / "dimers.png", dpi=120)
        table.save(out)
        element_table(scan, name).save(out)
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    if as_json:
        print(json.dumps(summary))
    else:
        shown = console()
        shown.print(describe_scan(scan), soft_wrap=True)
        for told in (table, element_table(scan, name, n_worst=10)):
            if told.rows:
                shown.print(told.to_rich(shown.width))
        shown.print(holes_line(scan), soft_wrap=True)
    if strict and not scan.passes.all():
        raise typer.Exit(1)
