"""Check for another project on PyPI that is also called mlip: two packages of one name in one folder overwrite each
other."""

import os

_ITS_RECORD, _ENDING = "mlip-", ".dist-info"
"""Name of the folder with pip's record of that distribution; ours is alexandria_mlip-VERSION.dist-info."""


def refuse_another_mlip(folder: str) -> None:
    """Check that the other project is not installed beside this one.

    Args:
        folder: the folder that contains the package `mlip`.

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
