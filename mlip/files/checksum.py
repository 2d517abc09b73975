"""Checksums of files."""

import hashlib
from pathlib import Path


def checksum_of(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file's content in hexadecimal digits; `kind` as hashlib names it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest()
