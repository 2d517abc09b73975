"""Folders that belong to mlip: its cache, and the YAML files shipped with the package."""

import os
from importlib.resources import files
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Folder of compiled programs and downloaded potentials: $MLIP_CACHE, or `mlip` in the user's cache folder, which
    is ~/.cache/mlip on Linux."""
    return Path(os.environ.get("MLIP_CACHE") or platformdirs.user_cache_path("mlip"))


def packaged_files(folder: str) -> dict[str, Path]:
    """YAML files of a folder such as "recipes", by name without suffix; a file in a subfolder is named SUBFOLDER/NAME.
    The folder lies beside the package in a checkout, and inside the package in a wheel."""
    package = Path(str(files("mlip")))
    for root in (package.parent / folder, package / folder):
        if found := {str(path.relative_to(root).with_suffix("")): path for path in sorted(root.rglob("*.yaml"))}:
            return found
    return {}
