"""Model files: safetensors with config and metadata as JSON in the header. Written atomically, no pickle.

The header also holds a checksum of the JSON and all tensors: without it, a number altered on disk or in transfer would
silently change energies.
"""

import json
import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mlip import __version__
from mlip.errors import MlipError
from mlip.files.whole_file import whole_file
from mlip.mistaken_paths import mistaken
from mlip.pretrained import resolve

FORMAT_VERSION = 2
"""Newest file format that this version reads."""
_PLAIN_FORMAT = 1
"""Format of files with parameters only, which older versions can also read."""
_HEADER_KEY, _CHECKSUM_KEY = "mlip", "mlip_checksum"


def write_model_file(path: str | os.PathLike, header: dict[str, Any], params: Any) -> Path:
    """Write a model file.

    Args:
        header: JSON-serializable; states `format_version` unless it is 1.
        params: nested dict of arrays, stored as tensors.
    """
    path = Path(path)
    # safetensors writes the underlying memory: a transposed view would be scrambled.
    tensors = {".".join(key): np.asarray(leaf, order="C") for key, leaf in flatten_dict(params).items()}
    text = json.dumps({"format_version": _PLAIN_FORMAT, **header})
    data = save(tensors, metadata={_HEADER_KEY: text, _CHECKSUM_KEY: checksum_of(text, tensors)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_bytes(data)
    return path


def read_model_file(path: str | os.PathLike) -> tuple[dict[str, Any], Any]:
    """Read the header and the parameters of a model file.

    Args:
        path: a file, or a name that `mlip.pretrained.resolve` turns into one, such as those that `mlip models` lists.

    Raises:
        MlipError: the file or name does not exist, is not a model file (the message says what it is instead), was
            written by a newer version, or is damaged.
    """
    path = resolve(path)
    if not path.is_file():
        raise mistaken(path) or MlipError("no such potential", where=str(path), fix="give a .safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            texts = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise mistaken(path) or MlipError(
            f"cannot be read as safetensors: {error}",
            where=str(path),
            fix="a potential is what `mlip train` or `mlip convert` wrote; stores: `mlip data info`",
        ) from None
    text = texts.get(_HEADER_KEY)
    if text is None:
        raise MlipError(
            "has no mlip header: not a potential", where=str(path), fix="convert it: mlip convert SOURCE OUT"
        )
    header = _parsed(text, str(path))
    # Files from before checksums were introduced have none.
    if _CHECKSUM_KEY in texts and texts[_CHECKSUM_KEY] != checksum_of(text, tensors):
        raise MlipError(
            "was altered since it was written: its checksum is another one",
            where=str(path),
            fix="copy, fetch or export it again",
        )
    return header, unflatten_dict({tuple(key.split(".")): value for key, value in tensors.items()})


def checksum_of(text: str, tensors: Mapping[str, np.ndarray]) -> str:
    """Hash of the header's JSON and of the names, dtypes, shapes and bytes of all tensors, sorted by name."""
    found = blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        found.update(f"\n{name} {tensor.dtype.str} {tensors[name].shape}\n".encode())
        found.update(tensor.reshape(-1).view(np.uint8))
    return found.hexdigest()


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise MlipError("damaged header: not a JSON object", where=where)
    if header.get("format_version", 0) > FORMAT_VERSION:
        raise MlipError(
            f"written in format {header['format_version']}; this mlip {__version__} reads up to {FORMAT_VERSION}",
            where=where,
            fix="upgrade: pip install -U alexandria-mlip",
        )
    return header


def check_shapes(expected: Any, params: Any, where: str) -> None:
    """Check that two nested dicts of arrays have the same keys and shapes.

    Raises:
        MlipError: a parameter of the model is missing, superfluous, or has another shape.
    """
    wanted = {".".join(key): tuple(leaf.shape) for key, leaf in flatten_dict(expected).items()}
    found = {".".join(key): tuple(leaf.shape) for key, leaf in flatten_dict(params).items()}
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            raise MlipError(
                f"parameter {key}: the model has {wanted.get(key, 'none')}, the file {found.get(key, 'none')}",
                where=where,
            )
