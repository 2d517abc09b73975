"""Checks that prevent a build from becoming a store: nothing to store, repeated ids, a functional other than the
user's, or no source that could be read."""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path

from mlip.data.build_report import BuildReport
from mlip.data.parts import Part
from mlip.data.readers.naming import CONTRADICTION
from mlip.data.readers.sources import NOT_READ
from mlip.data.records import Skipped
from mlip.data.refine import BuildSettings
from mlip.data.store import Store
from mlip.data.unique_ids import repeated_ids
from mlip.errors import MlipError


def check_parts(
    report: BuildReport,
    parts: list[Part],
    folder: Path,
    n_stored: dict[str, int],
    settings: BuildSettings,
    sources: str,
) -> None:
    """Check that the parts may become a store.

    Raises:
        MlipError: no source could be read, materials state another functional than the user, an id occurs twice, or
            nothing is left.
    """
    _check_sources(parts, folder, report)
    _check_functionals(report, parts, folder, settings)
    if not sum(report.frames_kept.values()):
        raise MlipError("nothing is left to store", where=sources, fix=_what_happened(report, parts, folder))
    _check_ids(parts, folder, n_stored)


def _check_functionals(report: BuildReport, parts: list[Part], folder: Path, settings: BuildSettings) -> None:
    others = {
        reason.rpartition(": ")[2]: n
        for reason, n in report.skipped_materials.items()
        if reason.startswith(CONTRADICTION)
    }
    if not others:
        return
    told = ", ".join(f"{n} of {name}" for name, n in sorted(others.items()))
    n_other, n_agreeing = sum(others.values()), sum(report.materials_kept.values())
    first = next(one for one in _skipped(parts, folder) if one.reason.startswith(CONTRADICTION))
    raise MlipError(
        f"--functional {settings.functional} contradicts {n_other} materials: {told} (as they or their files' names "
        f"say); the other {n_agreeing} state {settings.functional} or nothing",
        where=f"{first.source}: {first.material_id}",
        fix="--functional only fills what is unstated: leave it out, or build them apart",
    )


def _skipped(parts: list[Part], folder: Path) -> Iterator[Skipped]:
    """Materials that the parts could not use."""
    for part in parts:
        yield from read_skipped(part.list_file(folder, "skipped"))


def read_skipped(path: Path) -> Iterator[Skipped]:
    """Materials in a list of those that could not be used."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield Skipped(**json.loads(line))


def _check_ids(parts: list[Part], folder: Path, n_stored: dict[str, int]) -> None:
    with ExitStack() as stack:
        shards = []
        for part in parts:
            (shard,) = stack.enter_context(Store(part.store_file(folder))).shards
            names = [source.name for source in part.sources]
            ends = list(accumulate(n_stored[name] for name in names))
            shards.append((shard, lambda place, names=names, ends=ends: names[bisect_right(ends, place)]))
        repeated = repeated_ids(shards)
    if not repeated:
        return
    one = repeated[0]
    more = f", as {len(repeated) - 1} further ids do" if len(repeated) > 1 else ""
    raise MlipError(
        f"the id {one.material_id!r} ({one.functional}) occurs in {one.first} and again in {one.second}{more}",
        fix="leave one of the sources out, or give the materials ids of their own",
    )


def _check_sources(parts: list[Part], folder: Path, report: BuildReport) -> None:
    """Raise the first source's fault if no source could be read to its end."""
    if report.failed_sources[NOT_READ] < report.sources:
        return
    first = next(one for one in _skipped(parts, folder) if one.reason == NOT_READ)
    several = f"; nor could the other {report.sources - 1} sources be read" if report.sources > 1 else ""
    raise MlipError(f"{first.detail}{several}", where=first.source)


def _what_happened(report: BuildReport, parts: list[Part], folder: Path) -> str:
    reasons = Counter(report.skipped_materials) + report.outlier_frames
    counts = ", ".join(f"{n} x {reason}" for reason, n in reasons.most_common())
    first = next(_skipped(parts, folder), None)
    return f"{counts}; first {first.material_id}: {first.detail}" if first else counts or "the sources hold no material"
