"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MLIP_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of goldens and real DFT data; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared goldens and data, absent at {SHARED} (set MLIP_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def quickstart_data() -> Path:
    """The bundled surrogate relaxation paths."""
    return REPOSITORY / "datasets" / "quickstart"
