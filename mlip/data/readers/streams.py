"""A file as a stream of decompressed blocks, so that no reader ever holds a whole file.

The compression is detected from the file's first bytes, not from its name.
"""

import bz2
import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from mlip.errors import MlipError

BLOCK_BYTES = 1 << 20

OnBytes = Callable[[int], None]
"""Function that receives, as reading goes on, the number of bytes of the file on disk that have been read."""


def read_blocks(path: Path, on_bytes: OnBytes | None = None) -> Iterator[bytes]:
    """Decompressed blocks of a plain, gzip or bz2 file.

    Raises:
        MlipError: the file cannot be opened, is truncated, or its compressed data are damaged.
    """
    try:
        with path.open("rb") as raw:
            for block in _decompressed(raw):
                yield block
                if on_bytes:
                    on_bytes(raw.tell())
    except EOFError:
        raise MlipError("the compressed file is truncated", where=str(path), fix="fetch or copy it again") from None
    except zlib.error as error:
        raise MlipError(f"the compressed data are damaged ({error})", where=str(path)) from None
    except OSError as error:
        raise MlipError(f"cannot be read ({error.strerror or error})", where=str(path)) from None


def read_text(path: Path, on_bytes: OnBytes | None = None, encoding: str = "utf-8-sig") -> Iterator[str]:
    """Decoded text of a plain, gzip or bz2 file, in blocks.

    Raises:
        MlipError: any error of `read_blocks`, or the bytes are not in the encoding (UTF-8 by default).
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in read_blocks(path, on_bytes):
            yield decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise MlipError(f"not UTF-8 text ({error.reason})", where=str(path)) from None


def read_lines(path: Path, on_bytes: OnBytes | None = None, encoding: str = "utf-8-sig") -> Iterator[str]:
    """Lines of a plain, gzip or bz2 file, each with its line end; raises the errors of `read_text`."""
    rest = ""
    for text in read_text(path, on_bytes, encoding):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield line + "\n"
    if rest:
        yield rest


def _decompressed(raw: BinaryIO) -> Iterator[bytes]:
    magic = raw.read(3)
    raw.seek(0)
    if magic == b"BZh":
        yield from _from_bz2(raw)
        return
    stream = gzip.GzipFile(fileobj=raw) if magic[:2] == b"\x1f\x8b" else raw
    # read1 returns what is available: from a truncated file, everything that can be read before the error.
    while block := stream.read1(BLOCK_BYTES):
        yield block


def _from_bz2(raw: BinaryIO) -> Iterator[bytes]:
    """Content of all bz2 streams of a file, one after another. `bz2.BZ2File` silently ignores data after the first
    stream that are not another stream."""
    stream = bz2.BZ2Decompressor()
    while True:
        if not stream.eof:
            data = raw.read(BLOCK_BYTES) if stream.needs_input else b""
            if stream.needs_input and not data:
                raise EOFError
        elif data := stream.unused_data or raw.read(BLOCK_BYTES):
            stream = bz2.BZ2Decompressor()
        else:
            return
        if block := stream.decompress(data, BLOCK_BYTES):
            yield block
