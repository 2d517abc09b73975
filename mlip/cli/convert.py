"""`mlip convert`: a published checkpoint becomes a potential file."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint: a folder or file of a published model.")],
    out: Annotated[Path, typer.Argument(help="The potential to write, OUT.safetensors.")],
) -> None:
    """Convert a published checkpoint into a potential file."""
    from mlip.convert import convert as read_checkpoint

    potential = read_checkpoint(source)
    potential.save(out)
    print(
        f"{out}: {potential.config.model}, {potential.n_parameters:,} parameters, "
        f"{len(potential.elements)} elements, {potential.metadata.functional}"
    )
