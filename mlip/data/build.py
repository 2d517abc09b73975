"""Sources -> store: read, sub-sample, filter, split, write. Nothing is left out without being counted."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TextIO

from mlip.data.outliers import remove_outliers, rules_named
from mlip.data.quality import check_structure
from mlip.data.records import Entry, MalformedError, Skipped, Trajectory
from mlip.data.sources import read_source, source_names
from mlip.data.split import FRACTIONS, assign_split, check_fractions
from mlip.data.subsample import kept_steps, subsample
from mlip.data.writer import StoreWriter, partial_path, put_in_place
from mlip.errors import MlipError


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What is done to the data between source and store.

    Raises:
        MlipError: a value that cannot be.
    """

    subsample: float = 0.0
    """Energy cutoff of `mlip.data.subsample`; 0 keeps every step, inf three a path."""
    per_atom: bool = True
    """The cutoff is in eV/atom; False: in eV per cell."""
    outliers: str = "none"
    """Name of the rule set in `mlip.data.outliers`."""
    fractions: tuple[float, float, float] = FRACTIONS
    """Shares of train, val, test."""
    seed: int = 0
    """Of the split."""
    functional: str | None = None
    """Of all sources; None: what each says."""
    dimensionality: int | None = None
    """Of all sources; None: what each says."""

    def __post_init__(self) -> None:
        kept_steps([0.0], self.subsample)
        rules_named(self.outliers)
        check_fractions(self.fractions)
        if self.dimensionality not in (None, 1, 2, 3):
            raise MlipError(f"a dimensionality of {self.dimensionality}", fix="1, 2 or 3")

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: strict JSON has no infinity, so that the cutoff inf is a text."""
        return asdict(self) | ({"subsample": "inf"} if math.isinf(self.subsample) else {})


@dataclass(slots=True)
class BuildReport:
    """What became of everything that was read. frames_read = frames_kept + all that was left out of them."""

    materials_read: int = 0
    """Skipped ones not counted."""
    frames_read: int = 0
    skipped_materials: Counter[str] = field(default_factory=Counter)
    """Reason -> materials that could not be used."""
    dropped_frames: Counter[str] = field(default_factory=Counter)
    """Reason -> steps that could not be used."""
    frames_subsampled_away: int = 0
    outlier_frames: Counter[str] = field(default_factory=Counter)
    """Rule -> frames removed."""
    outlier_materials: Counter[str] = field(default_factory=Counter)
    """Rule -> materials that lost a frame to it."""
    materials_emptied: int = 0
    """Materials that outlier rules left without a frame."""
    materials_kept: Counter[str] = field(default_factory=Counter)
    """Split -> materials."""
    frames_kept: Counter[str] = field(default_factory=Counter)
    """Split -> frames."""
    sets: Counter[str] = field(default_factory=Counter)
    """'PBE 3D', ... -> materials."""
    labels: Counter[str] = field(default_factory=Counter)
    """Label -> frames that have it."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: dict(v) if isinstance(v, Counter) else v for name, v in values.items()}


OnProgress = Callable[[int, BuildReport], None]
"""Told how many bytes of the source files are done, and the report so far."""

OnSkipped = Callable[[Skipped], None]


def build(
    sources: Sequence[Path],
    out: Path,
    settings: BuildSettings | None = None,
    *,
    on_progress: OnProgress | None = None,
    on_skipped: OnSkipped | None = None,
) -> BuildReport:
    """Build a store. It appears, complete, at the end; a killed build leaves what was there before.

    Skipped materials are listed in `OUT.skipped.jsonl`, one JSON object a line, if there are any.

    Args:
        sources: files and folders (`mlip.data.sources`).
        out: the store file, `*.h5`.

    Raises:
        MlipError: a source cannot be read to its end, or nothing is left to store.
    """
    settings = settings or BuildSettings()
    if out.suffix != ".h5" or out.is_dir():
        raise MlipError("a store is a file named *.h5", where=f"--out {out}")
    files = source_names(sources)
    report = BuildReport()
    with (
        StoreWriter(out, settings.as_dict()) as writer,
        _skipped_file(out.with_name(f"{out.name}.skipped.jsonl")) as skipped_file,
    ):
        for path, item in _read_all(files, settings, report, on_progress):
            if skipped := _put_through(item, path, settings, writer, report):
                report.skipped_materials[skipped.reason] += 1
                skipped_file.write(json.dumps(asdict(skipped)) + "\n")
                if on_skipped:
                    on_skipped(skipped)
        if not writer.n_frames:
            raise MlipError("nothing is left to store", where=", ".join(map(str, sources)), fix=_what_happened(report))
        writer.metadata["sources"] = [{"name": f.name, "bytes": f.stat().st_size} for f in files]
        writer.metadata["build"] = report.as_dict()
    return report


def _read_all(
    files: Mapping[Path, str], settings: BuildSettings, report: BuildReport, on_progress: OnProgress | None
) -> Iterator[tuple[Path, Trajectory | Skipped]]:
    """All materials of the files (path -> name), each with its file; bulk entries as trajectories of one frame."""
    done = 0
    kinds: dict[type, Path] = {}
    for path, name in files.items():

        def on_bytes(n: int, done: int = done) -> None:
            if on_progress:
                on_progress(done + n, report)

        for item in read_source(
            path,
            functional=settings.functional,
            dimensionality=settings.dimensionality,
            on_bytes=on_bytes,
            name=name,
        ):
            if not isinstance(item, Skipped):
                kinds.setdefault(type(item), path)
            if len(kinds) > 1:
                raise MlipError(
                    f"holds bulk entries, {kinds[Trajectory]} relaxation paths: their energies come from "
                    "different calculations",
                    where=str(kinds[Entry]),
                    fix="build two stores",
                )
            yield path, item.as_trajectory() if isinstance(item, Entry) else item
        done += path.stat().st_size
        on_bytes(0, done)


def _put_through(
    item: Trajectory | Skipped, path: Path, settings: BuildSettings, writer: StoreWriter, report: BuildReport
) -> Skipped | None:
    """Bring one material to the store, or say why not."""
    if isinstance(item, Skipped):
        return item
    try:
        _add(item, settings, writer, report)
    except MalformedError as fault:
        return fault.as_skipped(item.material_id, str(path))
    return None


def _add(trajectory: Trajectory, settings: BuildSettings, writer: StoreWriter, report: BuildReport) -> None:
    """Sub-sample, filter, split and write one material, and count what became of its frames.

    Raises:
        MalformedError: a structure that is left cannot be one.
    """
    sampled = subsample(trajectory, settings.subsample, per_atom=settings.per_atom)
    kept, removed = remove_outliers(sampled, rules_named(settings.outliers))
    for frame in kept.frames:
        check_structure(frame)
    report.materials_read += 1
    report.frames_read += trajectory.n_read
    report.dropped_frames.update(trajectory.dropped)
    report.frames_subsampled_away += len(trajectory.frames) - len(sampled.frames)
    report.outlier_frames.update(removed)
    report.outlier_materials.update(removed.keys())
    if not kept.frames:
        report.materials_emptied += 1
        return
    split = assign_split(trajectory.material_id, settings.seed, settings.fractions)
    writer.add(kept, split)
    report.materials_kept[split] += 1
    report.frames_kept[split] += len(kept.frames)
    report.sets[f"{trajectory.functional} {trajectory.dimensionality}D"] += 1
    for frame in kept.frames:
        report.labels["energy"] += not math.isnan(frame.energy)
        report.labels["forces"] += frame.forces is not None
        report.labels["stress"] += frame.stress is not None
        report.labels["magnetic moments"] += frame.magmoms is not None


@contextmanager
def _skipped_file(path: Path) -> Iterator[TextIO]:
    """A text file that appears at `path` when all has gone well, and not at all when nothing was written."""
    partial = partial_path(path)
    try:
        with partial.open("w", encoding="utf-8") as stream:
            yield stream
        if partial.stat().st_size:
            put_in_place(partial, path)
        else:
            path.unlink(missing_ok=True)  # of an earlier build
    finally:
        partial.unlink(missing_ok=True)


def _what_happened(report: BuildReport) -> str:
    reasons = report.skipped_materials + report.outlier_frames
    counts = ", ".join(f"{n} x {reason}" for reason, n in reasons.most_common())
    return counts or "the sources hold no material"
