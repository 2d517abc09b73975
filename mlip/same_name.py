"""Another project on PyPI is called mlip, too: two packages of one name in one folder overwrite each other's files."""

import os

_ITS_RECORD, _ENDING = "mlip-", ".dist-info"
"""Folder in which pip keeps the record of that distribution; ours is called alexandria_mlip-VERSION.dist-info."""


def refuse_another_mlip(folder: str) -> None:
    """
    Args:
        folder: where the package `mlip` lies.

    Raises:
        ImportError: the other project is installed into the same folder.
    """
    for name in os.listdir(folder):
        if name.startswith(_ITS_RECORD) and name.endswith(_ENDING):
            version = name.removeprefix(_ITS_RECORD).removesuffix(_ENDING)
            raise ImportError(
                f"PyPI's mlip {version}, another project of the same import name, is installed in {folder} and has "
                "overwritten files of alexandria-mlip, or the reverse; install one of them alone, into a fresh "
                "environment (python -m venv)"
            )
