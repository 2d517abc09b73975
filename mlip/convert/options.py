"""Options of the readers of checkpoints."""

from pathlib import Path
from typing import NamedTuple


class ReadOptions(NamedTuple):
    """As `mlip.convert.convert` takes them; each reader uses what concerns its format."""

    functional: str | None = None
    aggregate: str | None = None
    trust_pickle: bool = False
    element_vectors: str | Path | None = None
    predicts: str | None = None
