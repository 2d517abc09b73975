"""Which converter reads a source: each offers `recognises(path)` and `read(path) -> Potential`."""

from pathlib import Path

from mlip.convert import m3gnet
from mlip.errors import MlipError
from mlip.potential import Potential

_CONVERTERS = (m3gnet,)


def convert(source: str | Path) -> Potential:
    """The potential that a published checkpoint holds.

    Raises:
        MlipError: no such source, or a layout that no converter knows.
    """
    source = Path(source)
    if not source.exists():
        raise MlipError("no such file or folder", where=str(source))
    for converter in _CONVERTERS:
        if converter.recognises(source):
            return converter.read(source)
    known = "; ".join(converter.LAYOUT for converter in _CONVERTERS)
    raise MlipError("is no checkpoint that mlip can convert", where=str(source), fix=f"known: {known}")
