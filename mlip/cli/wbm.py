"""`mlip benchmark wbm`: Matbench Discovery's test, and the files of a submission to it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options


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
    dtype: options.RelaxationDtype = None,
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
    from mlip.cli.tables import console
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
