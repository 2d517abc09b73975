"""Progress of a round in one file, written whole or not at all, so that a killed round loses and repeats nothing."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mlip.errors import MlipError
from mlip.files.whole_file import remove_dead_partials, whole_file
from mlip.screening.best import Best
from mlip.screening.screener import Screened, empty_histogram

FORMAT_VERSION = 1


@dataclass
class RoundState:
    """State of a round after the candidates 0..cursor - 1."""

    best: Best
    cursor: int = 0
    n_allowed: int = 0
    n_not_finite: int = 0
    n_below: int = 0
    seconds: float = 0.0
    """Time that the round has taken so far over all starts, s."""
    histogram: Int[np.ndarray, "sites bins"] = field(default_factory=empty_histogram)

    def add(self, screened: Screened, stop: int) -> None:
        """Add the results of the next block, which ends at `stop`."""
        self.n_allowed += screened.n_allowed
        self.n_not_finite += screened.n_not_finite
        self.n_below += len(screened.candidates)
        self.histogram += screened.histogram
        self.best.add(screened.compositions, screened.candidates, screened.distances)
        self.cursor = stop

    def save(self, path: Path, protocol: dict[str, Any]) -> None:
        """Write the state durably, replacing the file."""
        self.best.settle()
        counts = {name: getattr(self, name) for name in _COUNTS}
        header = {"mlip_screening": FORMAT_VERSION, "protocol": protocol, "counts": counts}
        remove_dead_partials(path)
        with whole_file(path) as partial, partial.open("wb") as file:
            arrays = {name: getattr(self.best, name) for name in _ARRAYS} | {"histogram": self.histogram}
            np.savez(file, header=np.array(json.dumps(header)), **arrays)

    @classmethod
    def load(cls, path: Path, protocol: dict[str, Any], at_most: int | None) -> "RoundState":
        """Read the state of a round.

        Raises:
            MlipError: the file is damaged, or its round has another protocol.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                header = json.loads(str(arrays["header"]))
                best = Best(at_most, **{name: arrays[name] for name in _ARRAYS})
                histogram = arrays["histogram"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise MlipError(f"is damaged ({error})", where=str(path), fix="remove it to begin again") from None
        if header.get("mlip_screening", FORMAT_VERSION + 1) > FORMAT_VERSION:
            raise MlipError("written by a newer mlip", where=str(path), fix="pip install -U alexandria-mlip")
        protocol = json.loads(json.dumps(protocol))  # so that keys are strings, as in the file
        for key in sorted(protocol.keys() | header["protocol"].keys()):
            if header["protocol"].get(key) != protocol.get(key):
                raise MlipError(
                    f"holds a round with other {key}",
                    where=str(path.parent),
                    fix="repeat that round's recipe, or set out=ANOTHER",
                )
        return cls(best=best, histogram=histogram, **header["counts"])


_COUNTS = ("cursor", "n_allowed", "n_not_finite", "n_below", "seconds")
_ARRAYS = ("compositions", "candidates", "distances")
