"""`mlip data`: fetch data sets; build, inspect, check and export stores; label structures with a calculator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli import options
from mlip.cli.data_build import build
from mlip.cli.data_info import info
from mlip.cli.label import label
from mlip.cli.output import console

if TYPE_CHECKING:
    from mlip.data.fetch import Fetched
    from mlip.data.manifest import Manifest


def fetch(
    name: Annotated[str | None, typer.Argument(help="A data set, or a manifest.yaml.  [default: list them]")] = None,
    out: Annotated[Path, typer.Option(help="Folder to which data sets are fetched.")] = Path("data"),
    only: Annotated[str | None, typer.Option(help="Regular expression of the files' names, e.g. 'pbe_000'.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Number of files fetched at a time.")] = 4,
    check: Annotated[bool, typer.Option("--check", help="Compare files that exist with their checksums.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fetch a public data set: ALEXANDRIA's, MPtrj, WBM.

    Files that are complete are neither fetched again nor overwritten. After an interruption the same command resumes
    each file.
    """
    if name is None:
        _print_known()
        return
    from mlip.data.manifest import manifest_named

    manifest = manifest_named(name)
    fetched = _fetch_with_progress(manifest, out, parallel, check, only, hidden=as_json)
    if as_json:
        import json

        counts = {"new": sorted(fetched.new), "there_already": sorted(fetched.there_already)}
        print(json.dumps({"folder": str(fetched.folder), **counts, "license": manifest.license}))
        return
    print(f"{fetched.folder}: {len(fetched.new)} files fetched, {len(fetched.there_already)} were there already")
    print(f"{manifest.title}. License: {manifest.license}. Cite: {manifest.citation}")


def _print_known() -> None:
    from mlip.data.manifest import manifest_files, read_manifest

    manifests = [read_manifest(path) for _, path in sorted(manifest_files().items())]
    width = max(len(manifest.name) for manifest in manifests)
    for manifest in manifests:
        print(f"{manifest.name:{width}}  {manifest.title}; {manifest.content}, {manifest.license}")


def _fetch_with_progress(
    manifest: "Manifest", out: Path, parallel: int, check: bool, only: str | None, hidden: bool
) -> "Fetched":
    from mlip.data.fetch import fetch as fetch_files
    from mlip.progress import bytes_bar

    with bytes_bar(not hidden) as bar:
        tasks = {}

        def on_file(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=total)
            bar.update(tasks[file], completed=done, total=total, visible=done != total)

        return fetch_files(manifest, out, n_parallel=parallel, check=check, only=only, on_file=on_file)


def check(
    store: options.Stores,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Compare every column with its checksum. Exit status 1 if any was altered or cannot be read."""
    from dataclasses import asdict

    from mlip.data.check import find_problems

    with console(stderr=True).status("checking") as status:
        problems = list(find_problems(store, on_column=lambda column: status.update(f"checking {column}")))
    if as_json:
        import json

        print(json.dumps({"store": str(store), "sound": not problems, "problems": [asdict(p) for p in problems]}))
    else:
        for problem in problems:
            print(f"{problem.file}: {problem.column + ': ' if problem.column else ''}{problem.what}")
        if not problems:
            print(f"{store}: sound")
    if problems:
        raise typer.Exit(1)


def export(
    store: options.Stores,
    out: Annotated[
        Path, typer.Argument(help="*.extxyz(.gz), an ASE database *.db or *.aselmdb, or matsciml's *.lmdb.")
    ],
    split: Annotated[str | None, typer.Option(help="train, val or test.  [default: all]")] = None,
    force: options.ReplaceOut = False,
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


def relabel(
    potential: Annotated[Path, typer.Argument(help="A potential: a .safetensors file, or a name.")],
    store: options.Stores,
    out: options.NewStore,
    head: options.Head = None,
    dtype: options.ModelDtype = "float32",
    hessian: Annotated[
        bool, typer.Option("--hessian", help="Add the Hessian's product with a random direction (loss.curvature).")
    ] = False,
    force: options.ReplaceOut = False,
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


def curvature(
    store: Annotated[
        Path, typer.Argument(help="A store of displaced cells with forces, such as from phonon calculations.")
    ],
    out: options.NewStore,
    largest: Annotated[
        float, typer.Option(min=0.0, help="Largest displacement of an atom between the two frames of a pair, A.")
    ] = 0.2,
    force: options.ReplaceOut = False,
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


app = typer.Typer(
    help="Fetch data sets; build, inspect, check and export stores; label structures.", no_args_is_help=True
)
for command in (build, fetch, info, check, export, label, relabel, curvature):
    app.command()(command)
