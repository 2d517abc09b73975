"""Published checkpoints -> `Potential`, and back. One file a family; `convert` finds the one that knows the source."""

from mlip.convert.converters import convert, export

__all__ = ["convert", "export"]
