"""`mlip data info`: what a store holds and how it was built."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli.tables import console, print_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

_BUILD_COUNTS = (("Sets (materials)", "sets"), ("Frames by split", "frames_kept"), ("Frames with", "labels"))


def info(
    store: Annotated[Path, typer.Argument(help="A store file, or a folder of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show what a store holds and how it was built."""
    from mlip.data.store import Store

    with Store(store) as opened:
        counts = {"materials": opened.n_materials, "frames": opened.n_frames, "atoms": opened.n_atoms}
        metadata = {shard.path.name: shard.metadata for shard in opened.shards}
        if as_json:
            import json

            print(json.dumps({"store": str(store), "counts": counts, "shards": metadata}))
            return
    screen = console()
    print_rows(screen, str(store), counts.items())
    for title, key in _BUILD_COUNTS:
        print_rows(screen, title, _summed(shard.get("build", {}).get(key, {}) for shard in metadata.values()))
    for settings in _distinct(shard["settings"] for shard in metadata.values()):
        print_rows(screen, "Settings", settings.items())
    for units in _distinct(shard["units"] for shard in metadata.values()):
        print_rows(screen, "Units", units.items())


def _summed(counts: "Iterable[dict[str, int]]") -> list[tuple[str, int]]:
    from collections import Counter

    return list(sum(map(Counter, counts), Counter()).items())


def _distinct(values: "Iterable[dict]") -> list[dict]:
    found: list[dict] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
