"""`mlip benchmark`: the tables by which potentials are judged."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Compare a potential with DFT on many materials.")


@app.callback()
def _group() -> None:
    """Keeps `relaxation` a subcommand while it is the only one."""


@app.command()
def relaxation(
    potential: Annotated[Path, typer.Argument(help="The potential, a .safetensors file.")],
    store: Annotated[Path, typer.Argument(help="The store whose materials are relaxed from their last frame.")],
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl, tables and plots; a killed run goes on.")],
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    fmax: Annotated[float, typer.Option(help="Converged below this force, eV/A.")] = 0.05,
    steps: Annotated[int, typer.Option(help="At most so many steps.")] = 500,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers as JSON.")] = False,
) -> None:
    """Relax every material of a split; volume and energy errors by dimensionality.

    Exit status 0 when every material has its record, whether or not its relaxation succeeded.
    """
    import json

    from rich.console import Console

    from mlip.benchmark.relaxation import run_relaxation_benchmark, summarise
    from mlip.benchmark.report import plot_errors
    from mlip.benchmark.tables import relaxation_tables

    run = run_relaxation_benchmark(
        potential, store, out, split=split, fmax=fmax, steps=steps, dtype=dtype, progress=not as_json
    )
    tables = relaxation_tables(run)
    for table in tables:
        table.save(out)
    plot_errors(run.records, out)
    rows = {
        f"{row.dimensionality}D": {"volume": row.volume.as_record(), "energy": row.energy.as_record()}
        for row in summarise(run.records)
    }
    summary = {"tables": rows, "run": run.summary()}
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    if as_json:
        print(json.dumps(summary))
        return
    console = Console()
    for table in tables:
        console.print(table.to_rich())
    for line in run.describe():
        console.print(line)
    console.print(f"Records, tables and plots: {out}")
