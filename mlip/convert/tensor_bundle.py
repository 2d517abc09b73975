"""TensorFlow's checkpoint format (a "tensor bundle") without TensorFlow.

NAME.index is a sorted-string table as in LevelDB: blocks of prefix-compressed keys, each block with a checksum. A
footer of 48 bytes locates an index block, which locates the other blocks. The values are protocol buffers that give the
place of each tensor in NAME.data-00000-of-00001, where it is stored as plain little-endian numbers. Nothing is
executed, every offset is checked against the files, and every checksum is compared.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlip.errors import MlipError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_LARGEST_INDEX = 64 * 2**20
_LARGEST_DATA = 4 * 2**30
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # codes of tensorflow.DataType
_STRING = 7
"""Type code of strings. Keras stores the graph of its objects as a string tensor, which holds no numbers."""


class _DamagedError(Exception):
    """Fault in a file, whose name is added where it is known."""


def read_tensor_bundle(index: Path) -> dict[str, np.ndarray]:
    """All numeric tensors of a checkpoint, by key.

    Args:
        index: path of NAME.index; the data file lies beside it.

    Raises:
        MlipError: a file is missing, truncated, altered or of an unsupported kind (compressed, several shards, types
            other than integers and floats of 32 or 64 bits).
    """
    data_file = index.with_suffix(".data-00000-of-00001")
    try:
        table = dict(_entries(_read(index, _LARGEST_INDEX)))
        header = _message(table.pop(b"", b""))
        if header.get(1) != 1:
            raise _DamagedError(f"{header.get(1, 0)} shards: only checkpoints in one shard are read")
        if header.get(2, 0) != 0:
            raise _DamagedError("big-endian tensors are not read")
        entries = {key.decode(): _message(value) for key, value in table.items()}
    except (_DamagedError, ValueError, TypeError) as error:
        raise MlipError(f"is no undamaged checkpoint index: {error}", where=str(index)) from None
    try:
        data = memoryview(_read(data_file, _LARGEST_DATA))
        return {key: _tensor(key, entry, data) for key, entry in entries.items() if entry.get(1) != _STRING}
    except (_DamagedError, ValueError, TypeError) as error:
        raise MlipError(f"does not fit its index: {error}", where=str(data_file)) from None


def _read(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise MlipError("no such file", where=str(path), fix="a checkpoint is NAME.index and NAME.data-00000-of-00001")
    if path.stat().st_size > limit:
        raise _DamagedError(f"{path.stat().st_size} bytes, more than any checkpoint has")
    return path.read_bytes()


def _tensor(key: str, entry: dict, data: memoryview) -> np.ndarray:
    """One tensor of the data file, located by its BundleEntryProto."""
    dtype = _DTYPES.get(entry.get(1, 0))
    if dtype is None or 7 in entry:
        raise _DamagedError(f"{key}: type {entry.get(1, 0)} is not read" if dtype is None else f"{key}: partitioned")
    shape = tuple(_message(dimension).get(1, 0) for dimension in _messages(entry.get(2, b""), 2))
    offset, size = entry.get(4, 0), entry.get(5, 0)
    if size != np.dtype(dtype).itemsize * math.prod(shape):
        raise _DamagedError(f"{key}: {size} bytes for shape {shape}")
    if offset + size > len(data):
        raise _DamagedError(f"{key} ends at byte {offset + size} of {len(data)}")
    blob = data[offset : offset + size]
    if _masked_crc32c(blob) != entry.get(6):
        raise _DamagedError(f"{key}: wrong checksum, the file was altered")
    return np.frombuffer(blob, dtype).reshape(shape)


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of every entry of a sorted-string table."""
    if len(table) < _FOOTER or struct.unpack("<Q", table[-8:])[0] != _MAGIC:
        raise _DamagedError("truncated, or no TensorFlow checkpoint (wrong magic number)")
    footer = table[-_FOOTER:]
    place = _varint(footer, _varint(footer, 0)[1])[1]  # past the handle of the meta index
    for _, handle in _block_entries(_block(table, footer[place:])):
        yield from _block_entries(_block(table, handle))


def _block(table: bytes, handle: bytes) -> bytes:
    offset, place = _varint(handle, 0)
    size, _ = _varint(handle, place)
    if offset + size + 5 > len(table):
        raise _DamagedError(f"a block ends at byte {offset + size + 5} of {len(table)}")
    compression, checksum = struct.unpack("<BI", table[offset + size : offset + size + 5])
    if checksum != _masked_crc32c(table[offset : offset + size + 1]):
        raise _DamagedError("wrong checksum, the file was altered")
    if compression:
        raise _DamagedError("compressed blocks are not read")
    return table[offset : offset + size]


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of every entry of a block. Keys are stored as the length shared with the previous key, and the
    rest."""
    n_restarts = struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else 0
    end = len(block) - 4 * (n_restarts + 1)
    key, place = b"", 0
    while place < end:
        shared, place = _varint(block, place)
        unshared, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared > len(key) or place + unshared + length > end:
            raise _DamagedError("an entry is longer than its block")
        key = key[:shared] + block[place : place + unshared]
        place += unshared + length
        yield key, block[place - length : place]


def _messages(message: bytes, field: int) -> list[bytes]:
    return [value for number, value in _fields(message) if number == field and isinstance(value, bytes)]


def _message(message: bytes) -> dict[int, int | bytes]:
    """Last value of each field of a protocol buffer, by field number."""
    return dict(_fields(message))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(message, place)
        elif kind in (1, 2, 5):
            length, place = _varint(message, place) if kind == 2 else ({1: 8, 5: 4}[kind], place)
            value, place = message[place : place + length], place + length
            if place > len(message):
                raise _DamagedError("a field is longer than its message")
            if kind != 2:
                value = int.from_bytes(value, "little")
        else:
            raise _DamagedError("an unknown kind of field")
        yield tag >> 3, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Unsigned integer of up to 64 bits, stored seven bits per byte, and the position after it."""
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(data):
            raise _DamagedError("ends inside a number")
        value |= (data[place] & 127) << shift
        place += 1
        if data[place - 1] < 128:
            return value, place
    raise _DamagedError("a number has more than 64 bits")


def _crc32c_table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (0x82F63B78 if value & 1 else 0) for value in table]
    return table


_CRC = _crc32c_table()


def _masked_crc32c(data: bytes | memoryview) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as LevelDB stores it; takes 0.1 s per megabyte."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 255] ^ value >> 8
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
