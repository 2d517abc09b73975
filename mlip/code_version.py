"""Version of the running code, including a hash of the sources, for processes that must run the same code.

The version number alone changes only with releases, but any change between two releases can alter every result.
"""

from hashlib import blake2b
from pathlib import Path

from mlip import __version__
from mlip.errors import MlipError


def source_version(package: Path = Path(__file__).parent) -> str:
    """Version plus a hash of the names and contents of all sources in `package`, e.g. "0.1.0+3f9a0c52d1e7b684"."""
    content = blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        name, text = path.relative_to(package).as_posix().encode(), path.read_bytes()
        content.update(b"%d %s %d " % (len(name), name, len(text)) + text)
    return f"{__version__}+{content.hexdigest()}"


CODE_VERSION: str = source_version()
"""Version of the sources when this module was imported. Editing the files later does not change the running code."""


def check_same_code(version: str) -> None:
    """Check on a worker that the client runs the same code.

    Raises:
        MlipError: the client's code version differs.
    """
    if version != CODE_VERSION:
        raise MlipError(
            f"a worker has mlip {CODE_VERSION}, this process {version}",
            where="--cluster",
            fix="install the same sources on both sides, and start the workers again",
        )
