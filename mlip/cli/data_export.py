"""`mlip data export`: a store as extended XYZ, ASE database or LMDB."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    store: Annotated[Path, typer.Argument(help="A store file, or a folder of them.")],
    out: Annotated[
        Path, typer.Argument(help="*.extxyz(.gz), an ASE database *.db or *.aselmdb, or matsciml's *.lmdb.")
    ],
    split: Annotated[str | None, typer.Option(help="train, val or test.  [default: all]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a store's frames for other programs, in ASE's units and signs."""
    from mlip.data.schema import split_code
    from mlip.data.store import Store
    from mlip.data.store_export import export as export_frames
    from mlip.files.output_paths import check_new
    from mlip.progress import count_bar

    check_new(out, force=force)
    if split is not None:
        split_code(split)
    with Store(store) as opened, count_bar() as bar:
        task = bar.add_task("exporting", total=len(opened))
        n_frames = export_frames(opened, out, split, on_frame=lambda done: bar.update(task, completed=done))
    print(f"{out}: {n_frames:,} frames")
