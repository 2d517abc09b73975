"""`mlip report`: a training run as one HTML page."""

from pathlib import Path

import typer


def report(
    run: Path = typer.Argument(help="The folder of a run, finished or not."),
    out: Path = typer.Option(None, "--out", help="The HTML file. Default: report.html in the run folder."),
    store: Path = typer.Option(None, "--store", help="Where the run's store is, if not where its recipe says."),
    frames: int = typer.Option(2000, "--frames", min=1, help="Evaluate at most so many frames of each split."),
) -> None:
    """Write a run's report: learning curves, parity, errors by element, worst materials; one file, no network."""
    from rich.console import Console

    from mlip.training.report.write import write_report

    out = run / "report.html" if out is None else out
    with Console(stderr=True).status("evaluating the potential"):
        splits = write_report(run, out, store=store, at_most=frames)
    evaluated = ", ".join(f"{split.errors.n_frames:,} of {split.n_frames:,} {split.name} frames" for split in splits)
    typer.echo(f"{out}: {f'the potential on {evaluated}' if splits else 'no errors, as the run has not ended'}")
