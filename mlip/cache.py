"""The folder of what mlip keeps between runs: compiled programs, published potentials."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """$MLIP_CACHE, or the user's cache folder, which is ~/.cache/mlip on Linux."""
    return Path(os.environ.get("MLIP_CACHE") or platformdirs.user_cache_path("mlip"))
