"""`mlip benchmark elasticity`, `phonons` and `eos`: moduli, heat capacities and E(V) curves against references."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mlip.cli import options

Source = Annotated[
    Path,
    typer.Argument(
        help="A store whose materials have the labels, or a JSON file as matcalc publishes them (.json.gz)."
    ),
]
AtMost = Annotated[int | None, typer.Option(help="Number of materials, evenly chosen. Default: all.", min=1)]
WithPaper = Annotated[bool, typer.Option("--with-paper", help="Add the rows that MatPES published for these labels.")]


def elasticity(
    potential: options.Potential,
    source: Source,
    out: options.ResultsFolder,
    as_matcalc: Annotated[
        bool,
        typer.Option(
            "--as-matcalc",
            help="matcalc's protocol, as in published results: ions clamped, shear strains up to 0.06, fmax 0.05.",
        ),
    ] = False,
    at_most: AtMost = None,
    dtype: options.ResponseDtype = None,
    allow_functional_mismatch: options.LabelMismatch = False,
    with_paper: WithPaper = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Bulk and shear moduli (Voigt, Reuss, Hill) of labeled materials: MAE, and numbers of failed and unstable ones.

    Exit status 0 if every material has a record, whether or not it has a tensor.
    """
    settings: dict[str, Any] = {}
    if as_matcalc:
        settings = {"relax_ions": False, "shear_strains": (-0.06, -0.03, 0.03, 0.06), "fmax": 0.05}
    _run("elasticity", potential, source, out, with_paper, as_json, at_most, dtype, allow_functional_mismatch, settings)


def phonons(
    potential: options.Potential,
    source: Source,
    out: options.ResultsFolder,
    min_length: options.MinLength = 12.0,
    at_most: AtMost = None,
    dtype: options.ResponseDtype = None,
    allow_functional_mismatch: options.LabelMismatch = False,
    with_paper: WithPaper = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Heat capacities at 300 K of labeled materials: MAE, and numbers of failed and imaginary ones. Requires phonopy.

    Exit status 0 if every material has a record, whether or not it has phonons.
    """
    settings = {"min_length": min_length, "temperatures": (300.0,)}
    _run("phonons", potential, source, out, with_paper, as_json, at_most, dtype, allow_functional_mismatch, settings)


def eos(
    potential: options.Potential,
    source: Annotated[
        Path, typer.Argument(help="Curves E(V): a store, or a file that ASE reads (.extxyz.gz), volumes rising.")
    ],
    out: options.ResultsFolder,
    functional: Annotated[
        str | None, typer.Option(help="Functional of a file that does not state it, e.g. PBE.")
    ] = None,
    dtype: options.ResponseDtype = None,
    allow_functional_mismatch: options.LabelMismatch = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Equations of state against DFT's at the same structures: V0, B0, and the shape of the curve.

    Exit status 0 if every curve has a record, whether or not it could be compared.
    """
    from mlip.benchmark.eos_benchmark import run_eos_benchmark
    from mlip.cli.tables import show_table

    run = run_eos_benchmark(
        potential,
        source,
        out,
        functional=functional,
        dtype=dtype,
        allow_functional_mismatch=allow_functional_mismatch,
        progress=not as_json,
    )
    show_table(run.table(), out, as_json)


def _run(suite, potential, source, out, with_paper, as_json, at_most, dtype, allowed, settings) -> None:
    from mlip.benchmark.response_benchmark import run_response_benchmark
    from mlip.cli.tables import console

    run = run_response_benchmark(
        suite,
        potential,
        source,
        out,
        at_most=at_most,
        dtype=dtype,
        allow_functional_mismatch=allowed,
        progress=not as_json,
        **settings,
    )
    table = run.table(with_paper)
    table.save(out)
    if as_json:
        print(json.dumps(table.as_records()))
        return
    shown = console()
    shown.print(table.to_rich(shown.width))
    shown.print(f"Records and table: {out}", soft_wrap=True)
