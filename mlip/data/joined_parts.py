"""Assembly of a build's parts and their lists into the store, one file or a folder of shards, in one step at the
end."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from mlip.data.build_checks import read_skipped
from mlip.data.parts import Part
from mlip.data.records import Skipped
from mlip.data.refine import BuildSettings
from mlip.data.shard import is_store_file
from mlip.data.store import Store
from mlip.data.writer import StoreWriter
from mlip.files.whole_file import partial_path, put_in_place

LISTS = ("skipped", "findings")
"""Lists that a build leaves beside its store: materials that could not be used, and suspicious ones among those
kept."""

OnSkipped = Callable[[Skipped], None]


def put_together(
    parts: list[Part],
    folder: Path,
    out: Path,
    settings: BuildSettings,
    metadata: dict[str, Any],
    on_skipped: OnSkipped | None,
    kept: Sequence[Bool[np.ndarray, " m"]] | None = None,
) -> None:
    """Put the parts in place as the store, with their lists beside it.

    Args:
        kept: masks of the materials to keep, by part; None keeps all.
    """
    is_file = is_store_file(out)
    for kind in LISTS:
        target = out.with_name(f"{out.name}.{kind}.jsonl") if is_file else folder / f"{kind}.jsonl"
        _join_lists([part.list_file(folder, kind) for part in parts], target)
        if kind == "skipped" and on_skipped and target.exists():
            for one in read_skipped(target):
                on_skipped(one)
    if not is_file:
        os.rename(folder, out)
        for left in out.glob(".*"):  # the plan, the parts' lists, what killed workers left
            left.unlink()
        return
    if len(parts) == 1 and kept is None:
        put_in_place(parts[0].store_file(folder), out)
    else:
        _merge(parts, folder, out, settings, metadata, kept)
    shutil.rmtree(folder)


def _merge(
    parts: list[Part],
    folder: Path,
    out: Path,
    settings: BuildSettings,
    metadata: dict[str, Any],
    kept: Sequence[Bool[np.ndarray, " m"]] | None,
) -> None:
    with StoreWriter(out, settings.as_dict()) as writer:
        for k, part in enumerate(parts):
            with Store(part.store_file(folder)) as store:
                if kept is None:
                    writer.add_shard(store.shards[0])
                else:
                    writer.add_materials(store.shards[0], kept[k])
        writer.metadata |= metadata


def _join_lists(lists: list[Path], target: Path) -> None:
    """Concatenate lists in their order; no file is written if there is nothing to list."""
    partial = partial_path(target)
    try:
        with partial.open("wb") as joined:
            for path in lists:
                with path.open("rb") as stream:
                    shutil.copyfileobj(stream, joined)
        if partial.stat().st_size:
            put_in_place(partial, target)
        else:
            target.unlink(missing_ok=True)  # left by an earlier build
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
