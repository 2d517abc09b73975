"""Checksums of files."""

import hashlib
from pathlib import Path


def checksum_of(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file's content in hexadecimal digits; `kind` is the name of an algorithm in hashlib."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest()
