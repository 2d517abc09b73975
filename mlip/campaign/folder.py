"""The folder of a campaign and the names of its files. A step is done when its file exists: files are written whole or
not at all, and long steps resume where they were.

    recipe.yaml  start.json  start-hull.npz  hull.npz  report.html
    references/  elements.json, and the calculations behind it
    rounds/001/  entries.h5  model.json  model/  screening/  chosen.json  relaxations.jsonl  proposals.json
                 dft/  outcomes.json  results.h5  hull.npz  times.jsonl  summary.json
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlip.errors import MlipError
from mlip.files.journal import Journal, read_journal
from mlip.files.whole_file import whole_file


@dataclass(frozen=True)
class CampaignFolder:
    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def start(self) -> Path:
        """Facts about the start: the checksum of its store, and the materials left out of it."""
        return self.path / "start.json"

    @property
    def hull(self) -> Path:
        """The current hull."""
        return self.path / "hull.npz"

    @property
    def start_hull(self) -> Path:
        """The hull before the first round."""
        return self.path / "start-hull.npz"

    @property
    def references(self) -> "StageFolder":
        """Folder of the calculations before the first round."""
        return StageFolder(self.path / "references")

    @property
    def rounds(self) -> list["RoundFolder"]:
        """The rounds that have begun, in order."""
        return [RoundFolder(path) for path in sorted((self.path / "rounds").glob("[0-9][0-9][0-9]*"))]

    def round(self, number: int) -> "RoundFolder":
        """Folder of a round; rounds are numbered from 1."""
        return RoundFolder(self.path / "rounds" / f"{number:03d}")


@dataclass(frozen=True)
class StageFolder:
    """Folder of calculations that are handed over together."""

    path: Path

    @property
    def dft(self) -> Path:
        """Folder of the hand-over."""
        return self.path / "dft"

    @property
    def closed(self) -> Path:
        """Marker file by which the user gives up calculations that are not finished."""
        return self.path / "closed"

    @property
    def relaxations(self) -> Path:
        return self.path / "relaxations.jsonl"

    @property
    def proposals(self) -> Path:
        return self.path / "proposals.json"

    @property
    def outcomes(self) -> Path:
        """The outcome of each proposal."""
        return self.path / "outcomes.json"

    @property
    def elements(self) -> Path:
        """Energies of the elements, and the check of the start's entries; only in the folder of references."""
        return self.path / "elements.json"

    @property
    def times(self) -> Path:
        return self.path / "times.jsonl"

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Record the duration of a step, s, even if it fails."""
        self.path.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        try:
            yield
        finally:
            with Journal(self.times) as journal:
                journal.append({"step": step, "seconds": round(time.monotonic() - begun, 3)})

    def seconds(self) -> dict[str, float]:
        """Total duration of each step, s, over all runs that were not killed during it."""
        found: dict[str, float] = {}
        for record in read_journal(self.times) if self.times.exists() else ():
            found[record["step"]] = round(found.get(record["step"], 0.0) + record["seconds"], 3)
        return found


@dataclass(frozen=True)
class RoundFolder(StageFolder):
    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def entries(self) -> Path:
        """Store of all entries at the beginning of the round, with distances to the hull at that time."""
        return self.path / "entries.h5"

    @property
    def model_record(self) -> Path:
        """Record of the round's model and its test error."""
        return self.path / "model.json"

    @property
    def training(self) -> Path:
        """Run folder of the model, if it was trained in this round."""
        return self.path / "model"

    @property
    def screening(self) -> Path:
        return self.path / "screening"

    @property
    def chosen(self) -> Path:
        """Candidates chosen for relaxation."""
        return self.path / "chosen.json"

    @property
    def results(self) -> Path:
        """Store of the new entries."""
        return self.path / "results.h5"

    @property
    def hull(self) -> Path:
        """The hull with the round's results."""
        return self.path / "hull.npz"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def is_done(self) -> bool:
        return self.summary.exists()


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all. Raises ValueError for numbers that are not finite."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        MlipError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise MlipError("is damaged", where=str(path), fix="remove it to repeat the step") from None
