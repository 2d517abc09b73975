"""`mlip report` and `mlip export`: a training run as one HTML page, and its best state so far as a model."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options
from mlip.cli.output import console, show_page


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.")],
    out: Annotated[Path | None, typer.Option(help="The HTML file. Default: report.html in the run folder.")] = None,
    store: options.RunStore = None,
    frames: Annotated[int, typer.Option(min=1, help="Maximum number of frames evaluated of each split.")] = 2000,
    force: options.ReplaceFile = False,
    is_opened: options.OpenPage = False,
) -> None:
    """Write a run's report: learning curves, parity, errors by element, worst materials; one file, no network."""
    from mlip.files.output_paths import check_new, make_folder
    from mlip.training.report.run_page import write_run_page
    from mlip.training.report.run_records import open_run

    open_run(run)
    check_new(out or run / "report.html", force=force or out is None)  # the run's own page may always be replaced
    out = run / "report.html" if out is None else out
    make_folder(out.parent)
    with console(stderr=True).status("evaluating what the run has learnt"):
        evaluated = write_run_page(run, out, store=store, at_most=frames)
    if is_opened:
        show_page(out)
    typer.echo(f"{out}: {evaluated or 'no errors: the run has not ended, or has no frames to compare with'}")


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run that has ended, was stopped, or is running.")],
    out: Annotated[
        Path | None, typer.Argument(help="The model's file.  [default: potential.safetensors (or model.) in RUN]")
    ] = None,
    store: options.RunStore = None,
    force: options.ReplaceOut = False,
) -> None:
    """Export the best state so far of a training run, by the validation loss, as a potential or a property model."""
    from mlip.files.output_paths import check_new
    from mlip.training.run_export import export_run, model_path

    out = out or model_path(run)
    check_new(out, force=force)
    exported = export_run(run, out, store=store)
    which = "the best" if exported.is_best else "the last: no validation loss was finite"
    print(f"{exported.noun} of step {exported.step} ({which} of {exported.last_step} steps so far): {exported.path}")
