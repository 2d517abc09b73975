"""The account of a build: what became of every material and frame that was read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class BuildReport:
    """Counts that add up over materials, parts and machines. frames_read = frames_kept + all that was left out."""

    sources: int = 0
    """Files that were to be read."""
    failed_sources: Counter[str] = field(default_factory=Counter)
    """Reason -> files that could not be read to their end, or gave no material that can be used."""
    ignored_files: Counter[str] = field(default_factory=Counter)
    """Suffix -> files of the given folders that no reader takes."""
    materials_read: int = 0
    """Skipped ones not counted."""
    frames_read: int = 0
    skipped_materials: Counter[str] = field(default_factory=Counter)
    """Reason -> entries of the list of what was skipped: materials that could not be used, sources that failed."""
    dropped_frames: Counter[str] = field(default_factory=Counter)
    """Reason -> steps that could not be used, or that a path rule removed."""
    frames_subsampled_away: int = 0
    outlier_frames: Counter[str] = field(default_factory=Counter)
    """Rule -> frames removed."""
    outlier_materials: Counter[str] = field(default_factory=Counter)
    """Rule -> materials that lost a frame to it."""
    materials_emptied: int = 0
    """Materials that rules left without a frame."""
    not_lowest_materials: int = 0
    """Materials left out because another one of their composition has less of the property that decides, or because
    they lack it."""
    not_lowest_frames: int = 0
    """Their frames."""
    materials_kept: Counter[str] = field(default_factory=Counter)
    """Split -> materials."""
    frames_kept: Counter[str] = field(default_factory=Counter)
    """Split -> frames."""
    sets: Counter[str] = field(default_factory=Counter)
    """'PBE 3D', ... -> materials."""
    labels: Counter[str] = field(default_factory=Counter)
    """Label -> frames that have it."""
    finding_frames: Counter[str] = field(default_factory=Counter)
    """Finding of a check of `mlip.data.quality` -> frames, which are kept."""
    finding_materials: Counter[str] = field(default_factory=Counter)
    """The same -> materials."""
    forces_checked_materials: int = 0
    """Materials on whose paths the forces could be compared with finite differences."""
    stress_checked_materials: int = 0
    """Materials on whose paths the stress could be compared with finite differences."""

    def add(self, other: "BuildReport") -> None:
        for f in fields(self):
            mine, others = getattr(self, f.name), getattr(other, f.name)
            if isinstance(mine, Counter):
                mine.update(others)
            else:
                setattr(self, f.name, mine + others)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; counters in the order of their keys, which the order of the materials doesn't change."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: dict(sorted(v.items())) if isinstance(v, Counter) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "BuildReport":
        return cls(**{name: Counter(v) if isinstance(v, dict) else v for name, v in values.items()})
