"""Parts of a build: consecutive source files that one process reads, and the store file made from them.

A part depends only on its files and the settings, so that its bytes are the same whoever builds it, and a killed build
resumes with the missing parts. A part's store file appears when it is complete, after its lists.
"""

import gc
import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from mlip.code_version import check_same_code
from mlip.data.build_report import BuildReport
from mlip.data.readers import alexandria
from mlip.data.readers.json_stream import Member, NotJsonError
from mlip.data.readers.sources import (
    NO_MATERIAL,
    NOT_READ,
    ignored_files,
    read_past_faults,
    read_source,
    reader_of,
    source_names,
    source_stems,
)
from mlip.data.readers.streams import OnBytes
from mlip.data.records import Entry, Skipped, Trajectory
from mlip.data.refine import BuildSettings, Refined, refine, refused
from mlip.data.store import Store
from mlip.data.workers import process_pool
from mlip.data.writer import StoreWriter
from mlip.errors import MlipError

PART_BYTES = 1 << 25
"""Bytes of source files in one part; a larger file is a part of its own."""

_CHUNK_BYTES = 1 << 20
"""Bytes of text of the materials that are decoded, and then refined, together, by another process or by this one; in
this one it keeps the instruction cache warm, which saves a tenth of the time."""

_WORTH_HELP = 1 << 22
"""Size in bytes above which reading a part takes longer than starting helper processes."""

NO_USABLE = "no material that can be used"
"""Reason why a source failed if all its materials were skipped."""

PATHS, ENTRIES = "relaxation paths", "bulk entries"
"""Kinds of content. Their energies come from different calculations, so a store has one kind."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read. Size and modification time show whether it is still what an earlier build read."""

    path: str
    name: str
    """Name of the source in the store."""
    stem: str
    """Name of materials of this source that have no id."""
    n_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Part:
    """Files that become one store file."""

    index: int
    sources: tuple[SourceFile, ...]
    ignored_files: dict[str, int] = field(default_factory=dict)
    """Number of files beside the build's sources that no reader takes, by suffix; only the first part counts them."""

    @property
    def name(self) -> str:
        return f"part-{self.index:05d}"

    @property
    def n_bytes(self) -> int:
        return sum(source.n_bytes for source in self.sources)

    def store_file(self, folder: Path) -> Path:
        return folder / f"{self.name}.h5"

    def list_file(self, folder: Path, kind: str) -> Path:
        """Path of the list `kind`, 'skipped' or 'findings'. It is hidden because it is not part of the store that the
        folder becomes."""
        return folder / f".{self.name}.{kind}.jsonl"


def plan_parts(sources: Sequence[Path], part_bytes: int = PART_BYTES) -> list[Part]:
    """Parts of a build, in the order of the files; they depend only on the files' sizes.

    Raises:
        MlipError: any error of `mlip.data.readers.sources.source_names`.
    """
    parts: list[list[SourceFile]] = []
    size = 0
    names = source_names(sources)
    stems = source_stems(names.values())
    for path, name in names.items():
        stat = path.stat()
        if not parts or size + stat.st_size > part_bytes:
            parts.append([])
            size = 0
        parts[-1].append(SourceFile(str(path.absolute()), name, stems[name], stat.st_size, stat.st_mtime_ns))
        size += stat.st_size
    ignored = ignored_files(sources)
    return [Part(index, tuple(members), {} if index else ignored) for index, members in enumerate(parts)]


def build_part(
    part: Part, folder: Path, settings: BuildSettings, n_helpers: int = 0, on_bytes: OnBytes | None = None
) -> None:
    """Read the files of a part, and write its store file and its lists of skipped materials and of findings.

    Args:
        n_helpers: number of further processes that decode and refine materials while this one reads and writes.
        on_bytes: receives the number of bytes of the part's files that are done.

    Raises:
        MlipError: one file holds bulk entries and another holds paths, or the disk is full.
    """
    if part.n_bytes < _WORTH_HELP:
        n_helpers = 0
    report = BuildReport(ignored_files=Counter(part.ignored_files))
    kinds: dict[str, str] = {}
    n_stored: Counter[str] = Counter()
    with (
        rare_garbage_collection(),
        process_pool(n_helpers) if n_helpers else nullcontext() as pool,
        part.list_file(folder, "skipped").open("w", encoding="utf-8") as skipped_file,
        part.list_file(folder, "findings").open("w", encoding="utf-8") as findings_file,
        StoreWriter(part.store_file(folder), settings.as_dict()) as writer,
    ):
        for source, refined in _all_refined(part, settings, pool, n_helpers, on_bytes):
            report.add(refined.report)
            if refined.skipped:
                print(_as_line(refined.skipped), file=skipped_file)
            if refined.report.materials_read:
                kinds.setdefault(ENTRIES if refined.is_entry else PATHS, source.path)
                check_one_kind(kinds)
            for finding in refined.findings:
                line = {"material_id": refined.material_id, **finding._asdict(), "source": source.name}
                print(json.dumps(line), file=findings_file)
            if refined.kept is not None:
                writer.add(refined.kept, refined.split)
                n_stored[source.name] += 1
        writer.metadata |= part_metadata([part], report, next(iter(kinds), None), n_stored)
        for file in (skipped_file, findings_file):
            file.flush()
            os.fsync(file.fileno())


def part_metadata(
    parts: Sequence[Part], report: BuildReport, kind: str | None, n_stored: Mapping[str, int]
) -> dict[str, Any]:
    """Metadata with which a store file records its build.

    Args:
        n_stored: number of materials in the store from each source, by the source's name.
    """
    sources = [
        {"name": source.name, "bytes": source.n_bytes, "materials": n_stored.get(source.name, 0)}
        for part in parts
        for source in part.sources
    ]
    return {"sources": sources, "build": report.as_dict(), "kind": kind}


class BuiltPart(NamedTuple):
    """Account of a part that is done."""

    report: BuildReport
    kind: str | None
    """Kind of content, `PATHS` or `ENTRIES`; None without materials."""
    n_stored: dict[str, int]
    """Number of stored materials by source name, in the order of the store file."""


def read_part(part: Part, folder: Path) -> BuiltPart:
    """Account that the store file of a part records."""
    with Store(part.store_file(folder)) as store:
        metadata = store.metadata
    n_stored = {source["name"]: source["materials"] for source in metadata["sources"]}
    return BuiltPart(BuildReport.from_dict(metadata["build"]), metadata["kind"], n_stored)


def check_one_kind(kinds: dict[str, str]) -> None:
    """Raise MlipError if there are bulk entries and relaxation paths; `kinds` maps a kind to a file that holds it."""
    if len(kinds) > 1:
        raise MlipError(
            f"holds bulk entries, {kinds[PATHS]} relaxation paths: their energies come from different calculations",
            where=kinds[ENTRIES],
            fix="build two stores",
        )


def build_part_elsewhere(part: Part, folder: Path, settings: BuildSettings, version: str) -> None:
    """Run `build_part` on another machine.

    Raises:
        MlipError: that machine runs other code, or does not see the files of the machine that planned the build.
    """
    check_same_code(version)
    missing = [path for path in (str(folder), *(s.path for s in part.sources)) if not os.path.exists(path)]
    if missing:
        raise MlipError(
            "a worker does not see this path", where=missing[0], fix="sources and store on a shared file system"
        )
    build_part(part, folder, settings)


def _all_refined(
    part: Part, settings: BuildSettings, pool: ProcessPoolExecutor | None, n_helpers: int, on_bytes: OnBytes | None
) -> Iterator[tuple[SourceFile, Refined]]:
    done = 0
    for source in part.sources:

        def on_bytes_of_file(n: int, done: int = done) -> None:
            if on_bytes:
                on_bytes(done + n)

        for one in _accounted(_refined(source, settings, pool, n_helpers, on_bytes_of_file), source):
            yield source, one
        done += source.n_bytes
        on_bytes_of_file(0, done)


def _accounted(materials: Iterator[Refined], source: SourceFile) -> Iterator[Refined]:
    """Outcomes of a source's materials, followed by the outcome of the source itself."""
    n_items, is_any_usable, fault = 0, False, None
    for one in read_past_faults(materials, Path(source.path), source.name, refused):
        n_items += 1
        is_any_usable |= one.report.materials_read > 0
        if one.skipped and one.skipped.reason in (NOT_READ, NO_MATERIAL):
            fault = one.skipped.reason
        yield one
    if fault is None and n_items and not is_any_usable:
        fault = NO_USABLE
    report = BuildReport(sources=1, failed_sources=Counter([fault] if fault else []))
    yield Refined(source.name, None, "", report, [])


def _refined(
    source: SourceFile, settings: BuildSettings, pool: ProcessPoolExecutor | None, n_helpers: int, on_bytes: OnBytes
) -> Iterator[Refined]:
    path = Path(source.path)
    if reader_of(path).read is alexandria.read:
        chunks = chunks_of(alexandria.material_members(path, on_bytes))
        if pool is not None:
            yield from _refined_by_helpers(chunks, source, settings, pool, n_helpers)
        else:
            yield from chain.from_iterable(refine_members(chunk, source.path, settings) for chunk in chunks)
        return
    items = read_source(
        path,
        functional=settings.functional,
        dimensionality=settings.dimensionality,
        on_bytes=on_bytes,
        name=source.name,
        stem=source.stem,
        keys=settings.keys,
    )
    for item in items:
        yield refine(item, settings, source.path)


def chunks_of(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Lists of consecutive materials with about `_CHUNK_BYTES` of text each. If the file is faulty, the materials
    before the fault come first, and then the error."""
    chunk: list[Member] = []
    size = 0
    fault: Exception | None = None
    try:
        for member in members:
            chunk.append(member)
            size += len(member.text)
            if size >= _CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
    except Exception as error:
        fault = error
    if chunk:
        yield chunk
    if fault is not None:
        raise fault


def _refined_by_helpers(
    chunks: Iterator[list[Member]],
    source: SourceFile,
    settings: BuildSettings,
    pool: ProcessPoolExecutor,
    n_helpers: int,
) -> Iterator[Refined]:
    """Outcomes in the order of the file. Each helper has only a few chunks in progress, so that memory stays bounded.
    If the file is faulty, the chunks in progress come first, and then the error."""
    under_way: deque[Future[list[Refined]]] = deque()
    fault: Exception | None = None
    try:
        for chunk in chunks:
            under_way.append(pool.submit(refine_members, chunk, source.path, settings))
            if len(under_way) > 2 * n_helpers:
                yield from under_way.popleft().result()
    except BrokenExecutor:
        raise
    except Exception as error:
        fault = error
    for future in under_way:
        yield from future.result()
    if fault is not None:
        raise fault


def refine_members(chunk: list[Member], path: str, settings: BuildSettings) -> list[Refined]:
    """Refine undecoded materials of an ALEXANDRIA file."""
    with rare_garbage_collection():
        items = [_material(member, path, settings) for member in chunk]
        return [refine(item, settings, path) for item in items]


def _material(member: Member, path: str, settings: BuildSettings) -> Trajectory | Entry | Skipped:
    try:
        return alexandria.from_member(member, Path(path), settings.functional, settings.dimensionality)
    except NotJsonError as error:
        return Skipped(member.key, "not JSON", error.what, path)


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Context with rare garbage collection. Decoded JSON has no cycles, and searching its millions of objects for
    cycles takes a third of the time."""
    before = gc.get_threshold()
    gc.set_threshold(1_000_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _as_line(record: Any) -> str:
    return json.dumps(asdict(record))
