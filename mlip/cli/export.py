"""`mlip export`: write the best state so far of a training run as a model."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run that has ended, was stopped, or is running.")],
    out: Annotated[
        Path | None, typer.Argument(help="The model's file.  [default: potential.safetensors (or model.) in RUN]")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Path of the run's store, if it is not where the recipe says.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Export the best state so far of a training run, by the validation loss, as a potential or a property model."""
    from mlip.files.output_paths import check_new
    from mlip.training.run_export import export_run, model_path

    out = out or model_path(run)
    check_new(out, force=force)
    exported = export_run(run, out, store=store)
    which = "the best" if exported.is_best else "the last: no validation loss was finite"
    print(f"{exported.noun} of step {exported.step} ({which} of {exported.last_step} steps so far): {exported.path}")
