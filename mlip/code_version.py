"""Which code runs here: the version with a hash of the package's sources, for whatever two processes must have alike.

A version alone moves with releases only, and a change between two of them can change every number.
"""

from hashlib import blake2b
from pathlib import Path

from mlip import __version__
from mlip.errors import MlipError


def source_version(package: Path = Path(__file__).parent) -> str:
    """E.g. "0.1.0+3f9a0c52d1e7b684": the version, and a hash of the names and contents of all sources in `package`."""
    content = blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        name, text = path.relative_to(package).as_posix().encode(), path.read_bytes()
        content.update(b"%d %s %d " % (len(name), name, len(text)) + text)
    return f"{__version__}+{content.hexdigest()}"


CODE_VERSION: str = source_version()
"""Version of the sources as this module was imported. Later edits of the files change nothing that runs already."""


def check_same_code(version: str) -> None:
    """On a worker, for what a client has sent.

    Raises:
        MlipError: the client runs other code.
    """
    if version != CODE_VERSION:
        raise MlipError(
            f"a worker has mlip {CODE_VERSION}, this process {version}",
            where="--cluster",
            fix="install the same sources on both sides, and start the workers again",
        )
