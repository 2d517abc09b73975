"""`mlip benchmark suite`: many short benchmarks in one page; `elasticity`, `phonons`, `eos`, `dimers`: one benchmark.

One benchmark alone takes materials with labels, or for dimers the potential's own elements.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mlip.cli import options
from mlip.cli.output import console, show_table


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


def elasticity(
    potential: options.Potential,
    source: options.LabeledMaterials,
    out: options.ResultsFolder,
    as_matcalc: Annotated[
        bool,
        typer.Option(
            "--as-matcalc",
            help="matcalc's protocol, as in published results: ions clamped, shear strains up to 0.06, fmax 0.05.",
        ),
    ] = False,
    at_most: options.AtMost = None,
    dtype: options.ResponseDtype = None,
    allow_functional_mismatch: options.LabelMismatch = False,
    with_paper: options.WithMatpes = False,
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
    source: options.LabeledMaterials,
    out: options.ResultsFolder,
    min_length: options.MinLength = 12.0,
    at_most: options.AtMost = None,
    dtype: options.ResponseDtype = None,
    allow_functional_mismatch: options.LabelMismatch = False,
    with_paper: options.WithMatpes = False,
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
    dtype: options.ModelDtype = "float32",
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 if a pair fails.")] = False,
    as_json: options.SummaryAsJson = False,
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


def _run(suite, potential, source, out, with_paper, as_json, at_most, dtype, allowed, settings) -> None:
    from mlip.benchmark.response_benchmark import run_response_benchmark

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
