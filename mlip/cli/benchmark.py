"""`mlip benchmark`: tables that compare potentials with DFT."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options
from mlip.cli.benchmark_stability import hull, wbm
from mlip.cli.benchmark_suites import dimers, elasticity, eos, phonons, suite
from mlip.cli.output import console, show_page, show_table


def relaxation(
    potential: options.Potential,
    store: Annotated[Path, typer.Argument(help="The store whose materials are relaxed.")],
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl, tables and plots; a killed run resumes.")],
    split: options.Split = "test",
    start: Annotated[
        str, typer.Option(help="Start from each path's relaxed structure ('last'), or its 'first'.")
    ] = "last",
    fmax: Annotated[
        float | None,
        typer.Option(help="Converged below this force, eV/A; by default 0.05, with the authors' verdict 0.04."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Maximum number of steps; in each round of the authors' verdict.")] = 500,
    symmetry: Annotated[bool, typer.Option("--symmetry", help="Keep the space group of each structure.")] = False,
    verdict: Annotated[
        str | None,
        typer.Option(
            help="authors: relax in rounds as the code of the paper's group does, and give its verdict (force, cell, "
            "thickness, one piece) beside ours."
        ),
    ] = None,
    dtype: options.Dtype = None,
    cluster: options.Cluster = None,
    allow_functional_mismatch: Annotated[
        bool,
        typer.Option("--allow-functional-mismatch", help="References may be of another functional; the tables say so."),
    ] = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Relax every material of a split, and print volume and energy errors by dimensionality.

    Exit status 0 if every material has a record, whether or not its relaxation succeeded.
    """
    from mlip.benchmark.benchmark_page import write_benchmark_page
    from mlip.benchmark.certainty import certainty_tables
    from mlip.benchmark.histograms import plot_errors
    from mlip.benchmark.metrics import CONVENTIONS
    from mlip.benchmark.paper_tables import energy_table, volume_table
    from mlip.benchmark.relaxation import run_relaxation_benchmark
    from mlip.benchmark.results import in_all_verdicts
    from mlip.benchmark.verdicts.table import verdict_table
    from mlip.runtime import jax_facts

    run = run_relaxation_benchmark(
        potential,
        store,
        out,
        split=split,
        start=start,
        fmax=fmax,
        steps=steps,
        symmetry=symmetry,
        verdict=verdict,
        dtype=dtype,
        cluster=cluster,
        allow_functional_mismatch=allow_functional_mismatch,
        progress=not as_json,
    )
    verdicts, judged = verdict_table([run.results]), in_all_verdicts([run.results])
    tables = (
        *verdicts,
        volume_table(judged),
        energy_table(judged),
        *certainty_tables([run.results]),
    )
    for table in tables:
        table.save(out)
    plot_errors([run.results], out)
    write_benchmark_page([run.results], tables, out / "report.html")
    rows = {f"{summary.dimensionality}D": summary.as_record() for summary in run.results.summaries}
    answer = {"tables": rows, "conventions": CONVENTIONS, "run": run.summary(), "jax": jax_facts()}
    if verdicts:
        answer["verdicts"] = [row for table in verdicts for row in table.as_records()]
    (out / "summary.json").write_text(json.dumps(answer, indent=1) + "\n")
    if as_json:
        print(json.dumps(answer))
        return
    shown = console()
    for table in tables:
        shown.print(table.to_rich(shown.width))
    for line in run.describe():
        shown.print(line)
    shown.print(f"Records, tables, plots and report.html: {out}")


def volume(
    results: options.RelaxationResults,
    out: options.TableFolder = None,
    with_paper: options.WithPaper = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Table 3 of the paper: errors of relaxed volumes."""
    from mlip.benchmark.paper_tables import volume_table
    from mlip.benchmark.results import in_all_verdicts, load_results

    show_table(volume_table(in_all_verdicts(load_results(results)), with_paper), out, as_json)


def energy(
    results: options.RelaxationResults,
    out: options.TableFolder = None,
    with_paper: options.WithPaper = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Table 4 of the paper: errors of relaxed energies."""
    from mlip.benchmark.paper_tables import energy_table
    from mlip.benchmark.results import in_all_verdicts, load_results

    show_table(energy_table(in_all_verdicts(load_results(results)), with_paper), out, as_json)


def pbesol(
    results: options.RelaxationResults, out: options.TableFolder = None, as_json: options.NumbersAsJson = False
) -> None:
    """Table 6 of the paper: the distribution of energy errors.

    The paper starts from the first structures of the paths and keeps their symmetry: mlip benchmark relaxation --start
    first --symmetry --fmax 0.01 (for MACE 0.001).
    """
    from mlip.benchmark.paper_tables import pbesol_table
    from mlip.benchmark.results import load_results

    show_table(pbesol_table(load_results(results)), out, as_json)


def histograms(
    results: options.RelaxationResults,
    out: Annotated[Path, typer.Option(help="Folder for volume_errors.png and energy_errors.png.")],
) -> None:
    """Figure 7 of the paper: histograms of volume and energy errors."""
    from mlip.benchmark.histograms import plot_errors
    from mlip.benchmark.results import load_results

    potentials = load_results(results)
    out.mkdir(parents=True, exist_ok=True)
    for path in plot_errors(potentials, out):
        print(path)


def report(
    results: options.RelaxationResults,
    out: Annotated[Path, typer.Option(help="The HTML file.")],
    with_paper: options.WithPaper = False,
    is_opened: options.OpenPage = False,
) -> None:
    """Write one HTML file with all tables, histograms, and failed and worst structures before and after."""
    from mlip.benchmark.benchmark_page import write_benchmark_page
    from mlip.benchmark.certainty import certainty_tables
    from mlip.benchmark.paper_tables import energy_table, pbesol_table, volume_table
    from mlip.benchmark.results import in_all_verdicts, load_results
    from mlip.benchmark.verdicts.table import verdict_table

    potentials = load_results(results)
    judged = in_all_verdicts(potentials)
    tables = (
        *verdict_table(potentials),
        volume_table(judged, with_paper),
        energy_table(judged, with_paper),
        pbesol_table(potentials),
        *certainty_tables(potentials),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_benchmark_page(potentials, tables, out)
    if is_opened:
        show_page(out)
    print(out)


def properties(
    store: Annotated[Path, typer.Argument(help="The store whose materials are predicted.")],
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS...", help="Property models (.safetensors), of any properties; NAME=PATH names the row."
        ),
    ],
    split: options.Split = "test",
    out: options.TableFolder = None,
    allow_functional_mismatch: options.LabelMismatch = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Tables 1 and 2 of the paper: mean and standard deviation of each property, MAE, and MAE over the mean."""
    from mlip.benchmark.property_benchmark import run_property_benchmark

    table = run_property_benchmark(store, models, split=split, allow_functional_mismatch=allow_functional_mismatch)
    show_table(table, out, as_json)


app = typer.Typer(no_args_is_help=True, help="Compare potentials with DFT on many materials.")
_COMMANDS = (
    *(relaxation, volume, energy, pbesol, histograms, report),
    *(dimers, hull, properties, elasticity, phonons, eos, suite, wbm),
)
for command in _COMMANDS:
    app.command()(command)
