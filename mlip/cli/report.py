"""`mlip report`: a training run as one HTML page."""

from pathlib import Path

import typer


def report(
    run: Path = typer.Argument(help="The folder of a run, finished or not."),
    out: Path = typer.Option(None, "--out", help="The HTML file. Default: report.html in the run folder."),
    store: Path = typer.Option(None, "--store", help="Path of the run's store, if it is not where the recipe says."),
    frames: int = typer.Option(2000, "--frames", min=1, help="Maximum number of frames evaluated of each split."),
    force: bool = typer.Option(False, "--force", help="Replace the file that --out names if it exists."),
    is_opened: bool = typer.Option(False, "--open", help="Show it in the browser."),
) -> None:
    """Write a run's report: learning curves, parity, errors by element, worst materials; one file, no network."""
    from mlip.cli.browser import show_page
    from mlip.cli.tables import console
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
