"""Account of a build: what became of every material and frame that was read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class BuildReport:
    """Counts that are summed over materials, parts and machines. frames_read = frames_kept + all that was left out."""

    sources: int = 0
    """Number of source files."""
    failed_sources: Counter[str] = field(default_factory=Counter)
    """Number of sources that could not be read to their end, or gave no usable material, by reason."""
    ignored_files: Counter[str] = field(default_factory=Counter)
    """Number of files in the given folders that no reader takes, by suffix."""
    materials_read: int = 0
    """Number of materials read, without skipped ones."""
    frames_read: int = 0
    skipped_materials: Counter[str] = field(default_factory=Counter)
    """Number of entries in the list of skipped items (unusable materials and failed sources), by reason."""
    dropped_frames: Counter[str] = field(default_factory=Counter)
    """Number of steps that were unusable or removed by their reader, such as at a restart, by reason."""
    frames_subsampled_away: int = 0
    outlier_frames: Counter[str] = field(default_factory=Counter)
    """Number of frames removed, by rule."""
    outlier_materials: Counter[str] = field(default_factory=Counter)
    """Number of materials that lost a frame, by rule."""
    materials_emptied: int = 0
    """Number of materials that rules left without a frame."""
    not_lowest_materials: int = 0
    """Number of materials left out because another one of their composition has a lower value of the deciding property,
    or because they lack it."""
    not_lowest_frames: int = 0
    """Number of frames of these materials."""
    materials_kept: Counter[str] = field(default_factory=Counter)
    """Number of materials, by split."""
    frames_kept: Counter[str] = field(default_factory=Counter)
    """Number of frames, by split."""
    sets: Counter[str] = field(default_factory=Counter)
    """Number of materials by functional and dimensionality, such as 'PBE 3D'."""
    labels: Counter[str] = field(default_factory=Counter)
    """Number of frames that have a label, by label."""
    finding_frames: Counter[str] = field(default_factory=Counter)
    """Number of frames with a finding of `mlip.data.quality`, by check; these frames are kept."""
    finding_materials: Counter[str] = field(default_factory=Counter)
    """Number of materials with a finding, by check."""
    forces_checked_materials: int = 0
    """Number of materials on whose paths the forces could be compared with finite differences."""
    stress_checked_materials: int = 0
    """Number of materials on whose paths the stress could be compared with finite differences."""

    def add(self, other: "BuildReport") -> None:
        for f in fields(self):
            mine, others = getattr(self, f.name), getattr(other, f.name)
            if isinstance(mine, Counter):
                mine.update(others)
            else:
                setattr(self, f.name, mine + others)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values; counters are sorted by key, so that the order of the materials has no effect."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: dict(sorted(v.items())) if isinstance(v, Counter) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "BuildReport":
        return cls(**{name: Counter(v) if isinstance(v, dict) else v for name, v in values.items()})
