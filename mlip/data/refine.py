"""Processing of one material between reader and store: path rules, subsampling, outliers, checks, split.

It is a pure function of the material and the settings, so that any process on any machine can do it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from mlip.data.build_report import BuildReport
from mlip.data.formula import composition_key
from mlip.data.outliers import remove_outliers, remove_path_outliers, rules_named
from mlip.data.quality import Finding, check_structures, findings, finite_difference_findings
from mlip.data.records import Entry, MalformedError, Skipped, Trajectory
from mlip.data.schema import NO_STRUCTURE
from mlip.data.split import FRACTIONS, assign_split, check_fractions
from mlip.data.stacked import n_labeled
from mlip.data.subsample import kept_steps, subsample
from mlip.errors import MlipError

_LABELS = {"energy": "energy", "forces": "forces", "stress": "stress", "magnetic moments": "magmoms"}
"""Field of a frame, by its name in the report."""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Settings of a build.

    Raises:
        MlipError: a value is not valid.
    """

    subsample: float = 0.0
    """Energy cutoff of `mlip.data.subsample`; 0 keeps every step, inf three steps of a path."""
    per_atom: bool = True
    """Whether the cutoff is in eV/atom; if not, in eV per cell."""
    outliers: str = "none"
    """Names of rule sets in `mlip.data.outliers`, separated by commas."""
    fractions: tuple[float, float, float] = FRACTIONS
    """Fractions of train, val and test."""
    seed: int = 0
    """Seed of the split."""
    functional: str | None = None
    """Functional of materials that state none; None: as each source states."""
    dimensionality: int | None = None
    """Dimensionality 1, 2 or 3 of all materials; None: as each source states."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys of labels that ASE's files have under other names than ASE's, by label (`mlip.data.readers.labels`)."""
    split_by: Literal["material", "composition"] = "material"
    """Unit that a split keeps together: a material, or all materials of a reduced composition. A split that a source
    states takes precedence."""
    lowest: str | None = None
    """Property, such as e_form; the store keeps only the material with its lowest value for each reduced
    composition."""

    def __post_init__(self) -> None:
        kept_steps([0.0], self.subsample)
        rules_named(self.outliers)
        check_fractions(self.fractions)
        if self.split_by not in ("material", "composition"):
            raise MlipError(f"unknown --split-by {self.split_by!r}", fix="material or composition")
        if self.dimensionality not in (None, 1, 2, 3):
            raise MlipError(f"a dimensionality of {self.dimensionality}", fix="1, 2 or 3")

    def as_dict(self) -> dict[str, Any]:
        """Settings as strict JSON, in which the cutoff inf is a text because JSON has no infinity."""
        return asdict(self) | ({"subsample": "inf"} if math.isinf(self.subsample) else {})


class Refined(NamedTuple):
    """Outcome of refining one material."""

    material_id: str
    kept: Trajectory | None
    """Trajectory for the store; None if nothing is kept."""
    split: str
    report: BuildReport
    findings: list[Finding]
    skipped: Skipped | None = None
    is_entry: bool = False
    """Whether the material is a bulk entry, not a path."""


def refine(item: Trajectory | Entry | Skipped, settings: BuildSettings, source: str) -> Refined:
    """Process one material for the store, or give the reason for skipping it.

    Args:
        source: file that the material comes from.
    """
    is_entry = isinstance(item, Entry)
    if isinstance(item, Skipped):
        return refused(item)
    trajectory = item.as_trajectory() if is_entry else item
    try:
        return _refine(trajectory, settings)._replace(is_entry=is_entry)
    except MalformedError as fault:
        return refused(fault.as_skipped(item.material_id, source))._replace(is_entry=is_entry)


def refused(skipped: Skipped) -> Refined:
    """Outcome of a skipped material or source: its record and a count of it."""
    report = BuildReport()
    report.skipped_materials[skipped.reason] += 1
    return Refined(skipped.material_id, None, "", report, [], skipped)


def _refine(read: Trajectory, settings: BuildSettings) -> Refined:
    rules = rules_named(settings.outliers)
    path, removed = remove_path_outliers(read, rules)
    sampled = subsample(path, settings.subsample, per_atom=settings.per_atom)
    kept, outliers = remove_outliers(sampled, rules)
    check_structures(kept.frames)
    report = BuildReport(
        materials_read=1,
        frames_read=read.n_read,
        frames_subsampled_away=len(path.frames) - len(sampled.frames),
        materials_emptied=int(not kept.frames),
    )
    report.dropped_frames.update(read.dropped)
    report.outlier_frames.update(removed + outliers)
    report.outlier_materials.update((removed + outliers).keys())
    if not kept.frames:
        return Refined(read.material_id, None, "", report, [])
    split = read.split or assign_split(_split_key(read, settings), settings.seed, settings.fractions)
    count_kept(kept, split, report)
    tells_of_forces, tells_of_stress, of_path = finite_difference_findings(read)
    of_labels = () if read.frames[0].amounts is not None else findings(read, kept)  # a composition has none
    found = [*of_labels, *of_path, *_remarked(read)]
    report.forces_checked_materials = int(tells_of_forces)
    report.stress_checked_materials = int(tells_of_stress)
    _count_findings(found, report)
    return Refined(read.material_id, kept, split, report, found)


def _split_key(read: Trajectory, settings: BuildSettings) -> str:
    return composition_key(read.frames[0]) if settings.split_by == "composition" else read.material_id


def _remarked(read: Trajectory) -> Iterator[Finding]:
    """Remarks of the reader as findings."""
    for remark, frames in read.remarks.items():
        yield Finding(remark, len(frames), frames[0])


def count_kept(kept: Trajectory, split: str, report: BuildReport) -> None:
    """Count a material for the store, with its frames and labels."""
    report.materials_kept[split] += 1
    report.frames_kept[split] += len(kept.frames)
    kind = "compositions" if kept.dimensionality == NO_STRUCTURE else f"{kept.dimensionality}D"
    report.sets[f"{kept.functional} {kind}"] += 1
    for label, name in _LABELS.items():
        report.labels[label] += n_labeled(kept.frames, name)


def _count_findings(found: Iterable[Finding], report: BuildReport) -> None:
    for finding in found:
        report.finding_frames[finding.check] += finding.frames
        report.finding_materials[finding.check] += 1
