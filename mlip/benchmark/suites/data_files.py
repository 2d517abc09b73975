"""Data files that suites accept: stores, JSON with labeled materials, and ALEXANDRIA's JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlip.benchmark.labeled_materials import JSON_ENDINGS, read_labeled
from mlip.data import Store
from mlip.data.readers.alexandria import is_alexandria
from mlip.errors import MlipError
from mlip.files.checksum import checksum_of


def is_file_of_json(path: Path) -> bool:
    """Whether a file is JSON, judged by its name; otherwise it is a store."""
    return path.name.lower().endswith(JSON_ENDINGS) or is_alexandria(path)


def is_labeled(path: Path, names: Mapping[str, Sequence[str]]) -> bool:
    """Whether the file has materials with one of these labels."""
    try:
        return bool(read_labeled(path, names))
    except MlipError:
        return False


def dimensionalities(path: Path) -> set[int]:
    """Dimensionalities of the materials of a store; empty for other files."""
    if is_file_of_json(path):
        return set()
    with Store(path) as store:
        return {material.dimensionality for material in store.materials()}


def content_of(path: Path) -> str:
    """Checksum of the content of a file or a store."""
    if is_file_of_json(path):
        return checksum_of(path)
    with Store(path) as store:
        return store.content_sha256
