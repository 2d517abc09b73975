"""Folders of mlip's own: what it keeps between runs, and what travels with the package."""

import os
from importlib.resources import files
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Folder of compiled programs and published potentials: $MLIP_CACHE, or the user's cache folder, which is
    ~/.cache/mlip on Linux."""
    return Path(os.environ.get("MLIP_CACHE") or platformdirs.user_cache_path("mlip"))


def packaged_files(folder: str) -> dict[str, Path]:
    """Name -> YAML file in a folder such as "recipes"; files of a subfolder are called SUBFOLDER/NAME. A checkout has
    these folders beside the package, a wheel inside it."""
    package = Path(str(files("mlip")))
    for root in (package.parent / folder, package / folder):
        if found := {str(path.relative_to(root).with_suffix("")): path for path in sorted(root.rglob("*.yaml"))}:
            return found
    return {}
