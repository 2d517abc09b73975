"""Imports of PyTorch and mace-torch (extra `convert`), made only when a file needs them, and loading of their files."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mlip.errors import MlipError

_FIX = "pip install 'alexandria-mlip[convert]'"


def import_torch(what: str) -> ModuleType:
    """Import PyTorch; `what` says in the error message what it is needed for.

    Raises:
        MlipError: PyTorch is not installed, or is older than 2.6.
    """
    try:
        import torch
    except ImportError:
        raise MlipError(f"{what} with PyTorch, which is not installed", fix=_FIX) from None
    # Before 2.6 a crafted file could execute code in spite of weights_only (CVE-2025-32434).
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise MlipError(f"{what} with PyTorch 2.6 or later, not {torch.__version__}", fix=_FIX)
    return torch


def import_mace_torch(what: str) -> ModuleType:
    """Import PyTorch and mace-torch's classes.

    Raises:
        MlipError: PyTorch or mace-torch is not installed.
    """
    torch = import_torch(what)
    try:
        import mace.modules  # noqa: F401
    except ImportError:
        raise MlipError(f"{what} with mace-torch, which is not installed", fix=_FIX) from None
    return torch


_LARGEST_PICKLE = 2**24  # bytes without the tensors


def names_in_pickle(source: Path, mark: bytes) -> bool:
    """Whether the pickle in a PyTorch file contains these bytes. Nothing is unpickled for this check.

    Raises:
        one of `checkpoint_files.DAMAGED`: the archive is damaged.
    """
    if not source.is_file() or not zipfile.is_zipfile(source):
        return False
    with zipfile.ZipFile(source) as archive:
        pickles = [item for item in archive.infolist() if item.filename.endswith("/data.pkl")]
        return any(item.file_size < _LARGEST_PICKLE and mark in archive.read(item) for item in pickles)


def load_pickle(source: Path, trust_pickle: bool, harmless: Sequence[Any] = ()) -> Any:
    """Load a PyTorch file: as data if it holds nothing else, otherwise only if the file is trusted.

    Args:
        harmless: functions and classes, besides PyTorch's own, that data may contain, in the form that
            `torch.serialization.safe_globals` takes.

    Raises:
        MlipError: PyTorch is missing, the file can run code and is not trusted, or it cannot be loaded.
    """
    torch, where = import_torch(f"{source} is read"), str(source)
    try:
        with torch.serialization.safe_globals(list(harmless)):
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as refused:  # whatever the restricted unpickler meets
        if not trust_pickle:
            raise MlipError(
                f"has more than tensors in it, so that loading it can run any code ({_one_line(refused)})",
                where=where,
                fix="give --trust-pickle if you trust its source as you trust a program that you install",
            ) from None
    try:
        return torch.load(source, map_location="cpu", weights_only=False)
    except Exception as error:
        raise MlipError(f"cannot be loaded: {_one_line(error)}", where=where) from None


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
