"""`mlip benchmark hull` and `wbm`: predicted stability, as in the paper's table and as in Matbench Discovery."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options
from mlip.cli.output import console, show_table


def hull(
    store: Annotated[Path, typer.Argument(help="The store whose materials are judged.")],
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS...",
            help="Results of `mlip benchmark relaxation` on the store, or property models (.safetensors) that predict "
            "e_above_hull; NAME=PATH names the row.",
        ),
    ],
    references: Annotated[
        list[Path] | None,
        typer.Option(
            help="Reference phases of the hull: a store, or JSON of entries or formation energies; can be repeated. "
            "Default: the materials' own e_above_hull."
        ),
    ] = None,
    split: options.Split = "test",
    out: options.TableFolder = None,
    with_paper: options.WithPaper = False,
    allow_functional_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-functional-mismatch",
            help="Models, materials and references may be of several functionals or run types; the table says so.",
        ),
    ] = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Table 5 of the paper: errors of the distance to the hull, time, and precision and recall for stable materials."""
    from mlip.benchmark.hull_benchmark import run_hull_benchmark
    from mlip.benchmark.hull_table import hull_table

    predictions, notes = run_hull_benchmark(
        store, models, split=split, references=references or (), allow_functional_mismatch=allow_functional_mismatch
    )
    show_table(hull_table(predictions, notes, with_paper), out, as_json)


def wbm(
    potential: options.Potential,
    source: Annotated[
        Path,
        typer.Argument(
            help="The folder that `mlip data fetch wbm-initial` makes; or a store with paths of initial and relaxed "
            "structures."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the submission and the parts' records; a killed run resumes.")],
    start: Annotated[
        str, typer.Option(help="From the initial structures ('first'), or from those relaxed by DFT ('last').")
    ] = "first",
    fmax: Annotated[float, typer.Option(help="Converged below this force, eV/A.")] = 0.05,
    steps: options.Steps = 500,
    dtype: options.Dtype = None,
    part_size: Annotated[
        int, typer.Option(help="Number of materials relaxed, compared and written together; bounds the memory.")
    ] = 5000,
    at_most: Annotated[
        int | None, typer.Option(help="Only the first materials, up to this number, for a trial run.", min=1)
    ] = None,
    model_key: Annotated[
        str | None, typer.Option(help="The model's key in the submission. Default: from the potential's name.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes that compare structures. Default: one per core.", min=1)
    ] = None,
    cluster: options.Cluster = None,
    allow_functional_mismatch: Annotated[
        bool,
        typer.Option("--allow-functional-mismatch", help="The potential may be of another functional than PBE."),
    ] = False,
    as_json: options.NumbersAsJson = False,
) -> None:
    """Matbench Discovery on WBM: relaxed structures, stability, and the files of a submission.

    Exit status 0 if every material has a record, whether or not its relaxation succeeded.
    """
    from mlip.benchmark.wbm.run import run_wbm
    from mlip.benchmark.wbm.tables import wbm_tables
    from mlip.runtime import jax_facts

    run = run_wbm(
        potential,
        source,
        out,
        start=start,
        fmax=fmax,
        steps=steps,
        dtype=dtype,
        part_size=part_size,
        at_most=at_most,
        model_key=model_key,
        workers=workers,
        cluster=cluster,
        allow_functional_mismatch=allow_functional_mismatch,
        progress=not as_json,
    )
    tables = wbm_tables([run])
    for table in tables:
        table.save(out)
    answer = run.summary() | {"jax": jax_facts()}
    (out / "summary.json").write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(answer))
        return
    shown = console()
    for table in tables:
        shown.print(table.to_rich(shown.width))
    for line in run.describe():
        shown.print(line)
    shown.print(f"Submission, records, tables and summary.json: {out}")
