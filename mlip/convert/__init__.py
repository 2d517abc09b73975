"""Published checkpoints -> `Potential`. One file a family; `convert` finds the family that knows the source."""

from mlip.convert.registry import convert

__all__ = ["convert"]
