"""`mlip data curvature`: second derivatives of the energy from displaced cells."""

from pathlib import Path
from typing import Annotated

import typer


def curvature(
    store: Annotated[
        Path, typer.Argument(help="A store of displaced cells with forces, such as from phonon calculations.")
    ],
    out: Annotated[Path, typer.Option(help="The new store, *.h5.")],
    largest: Annotated[
        float, typer.Option(min=0.0, help="Largest displacement of an atom between the two frames of a pair, A.")
    ] = 0.2,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Make second derivatives of the energy from displaced cells; training with loss.curvature fits them.

    Two consecutive frames of one cell make a pair: the change of their forces gives the curvature halfway between them.
    Frames that make no pair (another cell, atoms that move too far or not at all, no forces) are counted.
    """
    from mlip.data.displaced import add_curvature
    from mlip.data.store import Store
    from mlip.files.output_paths import check_new

    check_new(out, force=force)
    with Store(store) as opened:
        counts = add_curvature(opened, out, largest)
    kept, pairs = counts.pop("frames"), counts.pop("pairs")
    rest = "".join(f", {n:,} no pair: {reason}" for reason, n in counts.items())
    print(f"{out}: {kept:,} frames, {pairs:,} more with the curvature halfway between two{rest}")
