"""Build of a store from sources: read, subsample, filter, split, write. Everything that is left out is counted.

The work is cut into parts (`mlip.data.parts`), which grow in a hidden folder beside the store: processes of this
machine, or workers of a Dask cluster, write a store file for each. Repeating a killed build resumes it. The parts
become one file, `--out store.h5`, or the shards of a folder, `--out store`, for data too large to be copied once more.
The bytes do not depend on the number of processes.
"""

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mlip.code_version import CODE_VERSION
from mlip.data.build_checks import check_parts
from mlip.data.build_report import BuildReport
from mlip.data.joined_parts import OnSkipped, put_together
from mlip.data.one_per_composition import keep_lowest
from mlip.data.parts import (
    PART_BYTES,
    BuiltPart,
    Part,
    build_part,
    build_part_elsewhere,
    check_one_kind,
    part_metadata,
    plan_parts,
    read_part,
)
from mlip.data.readers.optimade import fetch_pages, is_query, query_of
from mlip.data.refine import BuildSettings
from mlip.data.schema import FORMAT_VERSION
from mlip.data.shard import is_store_file
from mlip.data.workers import process_pool
from mlip.errors import MlipError
from mlip.files.one_writer import one_writer
from mlip.files.output_paths import NO_ROOM, cannot_write, writing_to

__all__ = ["BuildReport", "BuildSettings", "build"]

_OF_THE_DISK = (*NO_ROOM, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENAMETOOLONG, errno.ENOTDIR)

_POLL_SECONDS = 0.5

OnProgress = Callable[[int, int], None]
"""Function that receives the number of bytes of the source files that are done, and their total."""

OnResumed = Callable[[int, int], None]
"""Function that receives the number of parts that an earlier build has left, and their total."""


def build(
    sources: Sequence[Path | str],
    out: Path,
    settings: BuildSettings | None = None,
    *,
    n_workers: int = 1,
    cluster: str | None = None,
    on_progress: OnProgress | None = None,
    on_skipped: OnSkipped | None = None,
    on_resumed: OnResumed | None = None,
    part_bytes: int = PART_BYTES,
) -> BuildReport:
    """Build a store. It appears, complete, at the end. A killed build leaves what was there before; repeating it
    resumes the work.

    A source that cannot be read to its end, or that gives no material, does not end the build: it is listed as skipped
    with the reason, and the materials before the fault are kept.

    Skipped materials are listed in `OUT.skipped.jsonl`, suspicious ones in `OUT.findings.jsonl` (for a folder:
    `OUT/skipped.jsonl` and `OUT/findings.jsonl`), one JSON object per line; empty lists are not written.

    Args:
        sources: files and folders (`mlip.data.readers.sources`), and queries to an OPTIMADE server
            (`mlip.data.readers.optimade`).
        out: path of the store: a file, `*.h5`, or a folder of shards.
        n_workers: number of processes on this machine. Scripts with more than one need `if __name__ == "__main__"`.
        cluster: Dask cluster (`mlip.cluster.client`) that does the work instead.

    Raises:
        MlipError: no source can be read, nothing is left to store, the store cannot be written (no such place, a full
            disk), or another build writes it.
    """
    settings = settings or BuildSettings()
    _check_place(out)
    if settings.lowest is not None and not is_store_file(out):
        raise MlipError("--lowest makes one file", where=f"--out {out}", fix="name a file *.h5")
    pages = out.with_name(f".{out.name}.optimade")
    files = [fetch_pages(query_of(one), pages) if is_query(one) else Path(one) for one in map(str, sources)]
    parts = plan_parts(files, part_bytes)
    with _parts_folder(out, parts, settings) as folder:
        missing = [part for part in parts if not part.store_file(folder).exists()]
        if on_resumed and len(missing) < len(parts):
            on_resumed(len(parts) - len(missing), len(parts))
        done = sum(part.n_bytes for part in parts) - sum(part.n_bytes for part in missing)
        progress = _Progress(on_progress, done, sum(part.n_bytes for part in parts))
        if cluster is not None:
            _on_cluster(missing, folder, settings, cluster, progress)
        elif min(n_workers, len(missing)) > 1:
            _in_processes(missing, folder, settings, n_workers, progress)
        else:
            for part in missing:
                build_part(part, folder, settings, n_workers - 1, progress.of_part(part))
        report, kind, n_stored = _account(parts, folder)
        kept = None
        try:
            check_parts(report, parts, folder, n_stored, settings, ", ".join(map(str, sources)))
            if settings.lowest is not None:
                kept = keep_lowest([part.store_file(folder) for part in parts], settings.lowest, report)
        except MlipError:
            _forget(parts, folder)
            raise
        metadata = part_metadata(parts, report, kind, n_stored)
        put_together(parts, folder, out, settings, metadata, on_skipped, kept)
    shutil.rmtree(pages, ignore_errors=True)
    return report


def _check_place(out: Path) -> None:
    """Raise MlipError if no store can be written at this place, before anything is read."""
    with writing_to(out):
        exists, is_folder = out.exists(), out.is_dir()
    if not is_store_file(out) and exists:
        raise MlipError("exists already", where=f"--out {out}", fix="remove it, or name a new folder (or a file *.h5)")
    if out.suffix and (not is_store_file(out) or is_folder):
        raise MlipError("a store is a file named *.h5, or a folder without a suffix", where=f"--out {out}")


class _Progress:
    """Sum of the progress of all parts."""

    def __init__(self, tell: OnProgress | None, done: int, total: int):
        self._tell, self._done, self._total = tell, done, total
        self._of_parts: dict[int, int] = {}

    def update(self, part: Part, n_bytes: int) -> None:
        self._of_parts[part.index] = n_bytes
        if self._tell:
            self._tell(self._done + sum(self._of_parts.values()), self._total)

    def of_part(self, part: Part) -> Callable[[int], None]:
        return lambda n_bytes: self.update(part, n_bytes)


_bytes_of_parts: Any = None
"""In a worker process: array, shared with the build, of the number of bytes that are done of each part."""


def _share(array: Any) -> None:
    global _bytes_of_parts
    _bytes_of_parts = array


def _build_part_and_tell(part: Part, place: int, folder: Path, settings: BuildSettings, n_helpers: int) -> None:
    def on_bytes(n: int) -> None:
        _bytes_of_parts[place] = n

    build_part(part, folder, settings, n_helpers, on_bytes)


def _in_processes(
    parts: list[Part], folder: Path, settings: BuildSettings, n_workers: int, progress: _Progress
) -> None:
    """Build parts in processes, the largest first, so that the processes end together. If there are fewer parts than
    processes, each part has helpers."""
    n_jobs = min(n_workers, len(parts))
    shared = get_context("forkserver").Array("q", len(parts), lock=False)
    order = sorted(enumerate(parts), key=lambda numbered: -numbered[1].n_bytes)
    with process_pool(n_jobs, _share, (shared,)) as pool:
        under_way = {
            pool.submit(_build_part_and_tell, part, place, folder, settings, n_workers // n_jobs - 1)
            for place, part in order
        }
        while under_way:
            done, under_way = wait(under_way, _POLL_SECONDS)
            for future in done:
                future.result()
            for place, part in enumerate(parts):
                progress.update(part, shared[place])


def _on_cluster(parts: list[Part], folder: Path, settings: BuildSettings, cluster: str, progress: _Progress) -> None:
    """Build parts on a Dask cluster; a part whose worker dies is given to another worker."""
    from mlip.cluster.client import cluster_client, result_of

    with cluster_client(cluster) as client:
        from distributed import KilledWorker, as_completed

        order = sorted(parts, key=lambda part: -part.n_bytes)
        futures = {
            client.submit(build_part_elsewhere, part, folder.absolute(), settings, CODE_VERSION, pure=False): part
            for part in order
        }
        for future in as_completed(futures):
            part = futures[future]
            try:
                result_of(future)
            except KilledWorker:
                raise MlipError(
                    "killed every worker that read it (out of memory?)",
                    where=", ".join(source.path for source in part.sources),
                ) from None
            progress.update(part, part.n_bytes)


@contextmanager
def _parts_folder(out: Path, parts: list[Part], settings: BuildSettings) -> Iterator[Path]:
    """Context that yields the folder in which the parts grow. Parts of an earlier build are kept if that was the same
    build by the same code."""
    folder = out.with_name(f".{out.name}.parts")
    plan = json.dumps(
        {
            "code": CODE_VERSION,
            "format_version": FORMAT_VERSION,
            "settings": settings.as_dict(),
            "parts": [asdict(part) for part in parts],
        }
    )
    with writing_to(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    try:
        refusal = MlipError("another build writes this store now", where=f"--out {out}")
        with one_writer(out.with_name(f".{out.name}.lock"), refusal):
            plan_file = folder / ".plan.json"
            try:
                if not plan_file.exists() or plan_file.read_text() != plan:
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir()
                    plan_file.write_text(plan)
                yield folder
            except BaseException:
                if not any(part.store_file(folder).exists() for part in parts):
                    shutil.rmtree(folder, ignore_errors=True)  # nothing to resume
                raise
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise cannot_write(out, error) from None


def _account(parts: list[Part], folder: Path) -> BuiltPart:
    """Account of all parts together."""
    report = BuildReport()
    kinds: dict[str, str] = {}
    n_stored: dict[str, int] = {}
    for part in parts:
        of_part = read_part(part, folder)
        report.add(of_part.report)
        n_stored |= of_part.n_stored
        if of_part.kind:
            kinds.setdefault(of_part.kind, part.sources[0].path)
            check_one_kind(kinds)
    return BuiltPart(report, next(iter(kinds), None), n_stored)


def _forget(parts: list[Part], folder: Path) -> None:
    """Remove the parts' store files, so that the next attempt reads the sources again."""
    for part in parts:
        part.store_file(folder).unlink()
