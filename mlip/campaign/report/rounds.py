"""The data of a campaign's report: the summaries of its rounds, and its hull."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from mlip.errors import MlipError
from mlip.hull.growing import GrowingHull

SURROGATE = "surrogate:"
"""Prefix of the functional's name if a surrogate took the place of DFT."""
Chosen = Literal["proposed", "random"]
"""Selection of the calculated structures: proposed by the campaign, or random."""


@dataclass(frozen=True)
class Round:
    """The summary of a round. Missing values (null or absent) are returned as NaN or empty."""

    number: int
    record: Mapping[str, Any]
    """Content of summary.json."""

    def count(self, *keys: str) -> float:
        """A number, such as `count("hull", "vertices")`; NaN if unknown."""
        value = self._at(keys)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number else math.nan

    def counts(self, key: str) -> dict[str, float]:
        """Numbers by name, such as `counts("outcomes")`; unknown ones are left out."""
        values = self.record.get(key)
        names = values if isinstance(values, Mapping) else {}
        found = {str(name): self.count(key, name) for name in names}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def distances(self, chosen: Chosen, *, is_after: bool = False) -> Float[np.ndarray, " k"]:
        """Distances to the hull of finished calculations, eV/atom.

        Args:
            is_after: distances to the hull after the round's results were added; else to the hull before.
        """
        of_all = self.record.get("distances_after" if is_after else "distances")
        values = of_all.get(chosen) if isinstance(of_all, Mapping) else None
        values = np.array([math.nan if value is None else value for value in values or ()], np.float64)
        return values[np.isfinite(values)]

    def text(self, *keys: str) -> str:
        """A text, such as `text("model", "checksum")`; empty if unknown."""
        value = self._at(keys)
        return value if isinstance(value, str) else ""

    def flag(self, *keys: str) -> bool | None:
        """A flag, such as `flag("model", "retrained")`; None if unknown."""
        value = self._at(keys)
        return value if isinstance(value, bool) else None

    def _at(self, keys: Sequence[str]) -> Any:
        value: Any = self.record
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    @property
    def seconds(self) -> float:
        """Seconds of all steps together; NaN if none is known."""
        parts = self.counts("seconds").values()
        return sum(parts) if parts else math.nan


@dataclass(frozen=True)
class Campaign:
    """The rounds in order, and the hull that they produced."""

    folder: Path
    rounds: Sequence[Round]
    hull: GrowingHull | None
    """The current hull; None if there is none or it cannot be read."""
    start: GrowingHull | None
    """The hull before the first round; None if there is none or it cannot be read."""
    unreadable: Sequence[str]
    """Files that exist but cannot be read."""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def functional(self) -> str:
        """Functionals of the energies, separated by commas."""
        return ", ".join(dict.fromkeys(filter(None, (one.text("functional") for one in self.rounds))))

    @property
    def notes(self) -> list[str]:
        """Notes on the numbers, as sentences."""
        notes = list(dict.fromkeys(filter(None, (one.text("note") for one in self.rounds))))
        if not notes and SURROGATE in self.functional:
            names = self.functional.replace(SURROGATE, "")
            notes.append(f"energies of finished calculations are those of a surrogate, {names}, not DFT's")
        return [_sentence(note) for note in notes]

    @property
    def short_notes(self) -> list[str]:
        """The first clause of each note, for tables, where full notes would be too long."""
        return list(dict.fromkeys(_sentence(note.split(";")[0]) for note in self.notes))

    @property
    def added(self) -> Int[np.ndarray, " k"] | None:
        """Rows of the hull's entries that the campaign has calculated; None where a hull is missing."""
        if self.hull is None or self.start is None:
            return None
        before = set(self.start.ids)
        return np.array([row for row, name in enumerate(self.hull.ids) if name not in before], int)

    def done(self, key: str) -> float:
        """Sum of `counts(key)` over all rounds and names; NaN if none is known."""
        parts = [sum(counts.values()) for one in self.rounds if (counts := one.counts(key))]
        return sum(parts) if parts else math.nan

    def total(self, *keys: str) -> float:
        """Sum of `count(*keys)` over the rounds where it is known; NaN if there are none."""
        known = [value for one in self.rounds if math.isfinite(value := one.count(*keys))]
        return sum(known) if known else math.nan


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].removesuffix('.')}."


def read_campaign(folder: Path) -> Campaign:
    """Read the summaries and hulls of a campaign.

    Raises:
        MlipError: there is no such folder.
    """
    if not folder.is_dir():
        raise MlipError("no such folder", where=str(folder), fix="name the folder of a campaign")
    rounds, unreadable = [], []
    for path in sorted(folder.glob("rounds/*/summary.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            rounds.append(Round(int(record["round"]), record))
        except (OSError, ValueError, KeyError, TypeError):
            unreadable.append(str(path.relative_to(folder)))
    hulls = []
    for name in ("hull.npz", "start-hull.npz"):
        try:
            hulls.append(GrowingHull.load(folder / name) if (folder / name).exists() else None)
        except MlipError:
            hulls.append(None)
            unreadable.append(name)
    return Campaign(folder, sorted(rounds, key=lambda one: one.number), *hulls, unreadable)
