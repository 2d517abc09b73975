"""Checkpoints in TensorFlow's layout, made without it: of any size, to be damaged in any way."""

import json
import struct
from pathlib import Path

import numpy as np

from mlip.convert.tensor_bundle import _masked_crc32c

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}


def varint(value: int) -> bytes:
    rest = value >> 7
    return bytes([value & 127 | 128]) + varint(rest) if rest else bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Keys share what they can with the one before, as TensorFlow writes them."""
    data, previous = b"", b""
    for key, value in entries:
        shared = next((k for k, (a, b) in enumerate(zip(key, previous)) if a != b), min(len(key), len(previous)))  # noqa: B905
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    data += struct.pack("<II", 0, 1) + b"\0"  # one restart point, no compression
    return data + struct.pack("<I", _masked_crc32c(data))


def write_tensor_bundle(prefix: Path, tensors: dict[str, np.ndarray], n_shards: int = 1) -> None:
    """The two files of a checkpoint as TensorFlow lays them out, one block of keys."""
    data, entries = b"", [(b"", field(1, n_shards))]
    for key in sorted(tensors):
        array = np.ascontiguousarray(tensors[key])
        shape = b"".join(field(2, field(1, n)) for n in array.shape)
        blob = array.tobytes()
        entry = field(1, DTYPES.get(array.dtype.name, 19)) + field(2, shape)
        entry += (field(4, len(data)) if data else b"") + field(5, len(blob))
        entry += varint(6 << 3 | 5) + struct.pack("<I", _masked_crc32c(blob))
        entries.append((key.encode(), entry))
        data += blob
    keys = block(entries)
    handle = varint(0) + varint(len(keys) - 5)
    index = block([(b"z", handle)])
    footer = (varint(0) * 2 + varint(len(keys)) + varint(len(index) - 5)).ljust(40, b"\0")
    prefix.with_suffix(".index").write_bytes(keys + index + footer + struct.pack("<Q", 0xDB4775248B80FB57))
    prefix.with_suffix(".data-00000-of-00001").write_bytes(data)


def write_json(folder: Path, values: dict, class_name: str = "M3GNet") -> None:
    """Keras' way: JSON in a string of JSON."""
    (folder / "m3gnet.json").write_text(json.dumps(json.dumps({"class_name": class_name, "config": values})))


def read_json(folder: Path) -> dict:
    return json.loads(json.loads((folder / "m3gnet.json").read_text()))["config"]
