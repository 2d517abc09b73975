"""`mlip data relabel`: replace the labels of a store by a potential's predictions."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli.tables import console


def relabel(
    potential: Annotated[Path, typer.Argument(help="A potential: a .safetensors file, or a name.")],
    store: Annotated[Path, typer.Argument(help="A store file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="The new store, *.h5.")],
    head: Annotated[str | None, typer.Option(help="Head of a potential that has several: PBE, ...")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    hessian: Annotated[
        bool, typer.Option("--hessian", help="Add the Hessian's product with a random direction (loss.curvature).")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Replace the labels of a store by a potential's own predictions.

    Training with them beside your new data (data.replay.store) reduces what a fine-tuned potential forgets.
    """
    from mlip.data.store import Store
    from mlip.evaluation.relabel import relabel as relabel_store
    from mlip.files.output_paths import check_new
    from mlip.potential import open_potential
    from mlip.pretrained import declared_name

    check_new(out, force=force)
    loaded = open_potential(potential, head)
    provenance = {"potential": declared_name(potential.name), "store": store.name}
    with Store(store) as opened, console(stderr=True).status("predicting"):
        counts = relabel_store(loaded, opened, out, provenance=provenance, dtype=dtype, hessian=hessian)
    left_out = f", {counts['left_out']:,} materials of other elements left out" if counts["left_out"] else ""
    print(f"{out}: {counts['materials']:,} materials, {counts['frames']:,} frames{left_out}")
