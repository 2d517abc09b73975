"""Descriptions of a model: one line for `repr`, an HTML table for notebooks, and a fingerprint that identifies it."""

import hashlib
import json
from html import escape
from typing import Any

import jax
import numpy as np
from pydantic import BaseModel


def description(kind: str, facts: dict[str, str]) -> str:
    """One-line description for `repr`."""
    return f"{kind}({', '.join(f'{name}: {value}' for name, value in facts.items())})"


def html_table(kind: str, facts: dict[str, str]) -> str:
    """HTML table for notebooks."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f"<table><caption>{escape(kind)}</caption>{rows}</table>"


def fingerprint(config: BaseModel, params: Any, rest: dict[str, Any]) -> str:
    """Hash of 16 hexadecimal digits over a model's configuration, parameters and further data."""
    digest = hashlib.sha256(json.dumps([config.model_dump(mode="json"), rest], sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
