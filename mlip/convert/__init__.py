"""Conversion of published checkpoints to a `Potential` or `PropertyModel`, and export; one file per model family."""

from mlip.convert.converters import convert, export

__all__ = ["convert", "export"]
