"""What readers are told about a checkpoint, beside where it lies."""

from typing import NamedTuple


class ReadOptions(NamedTuple):
    """As `mlip.convert.convert` takes them; each reader uses what concerns its format."""

    functional: str | None = None
    aggregate: str | None = None
    trust_pickle: bool = False
