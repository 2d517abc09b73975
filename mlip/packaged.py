"""Files that travel with the package, by name: recipes and data sets' manifests.

A checkout has them in folders beside the package; a wheel has them inside it.
"""

from importlib.resources import files
from pathlib import Path


def packaged_files(folder: str) -> dict[str, Path]:
    """Name -> YAML file in a folder such as "recipes"; files of a subfolder are called SUBFOLDER/NAME."""
    package = Path(str(files("mlip")))
    for root in (package.parent / folder, package / folder):
        if found := {str(path.relative_to(root).with_suffix("")): path for path in sorted(root.rglob("*.yaml"))}:
            return found
    return {}
