"""`mlip data fetch`: fetch and verify a public data set; an interrupted download resumes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
