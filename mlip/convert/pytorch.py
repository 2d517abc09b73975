"""PyTorch and mace-torch, imported when a file needs them: both come with the extra `convert`."""

from types import ModuleType

from mlip.errors import MlipError

_FIX = "pip install 'alexandria-mlip[convert]'"


def import_torch(what: str) -> ModuleType:
    """
    Raises:
        MlipError: PyTorch is not installed.
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
    """PyTorch, in which mace-torch's classes are known.

    Raises:
        MlipError: PyTorch or mace-torch is not installed.
    """
    torch = import_torch(what)
    try:
        import mace.modules  # noqa: F401
    except ImportError:
        raise MlipError(f"{what} with mace-torch, which is not installed", fix=_FIX) from None
    return torch
