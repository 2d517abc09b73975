"""A model in a line, in a table for notebooks, and in a name that no other model has."""

import hashlib
import json
from html import escape
from typing import Any

import jax
import numpy as np
from pydantic import BaseModel


def description(kind: str, facts: dict[str, str]) -> str:
    """One line, for `repr`."""
    return f"{kind}({', '.join(f'{name}: {value}' for name, value in facts.items())})"


def html_table(kind: str, facts: dict[str, str]) -> str:
    """The table that notebooks show."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f"<table><caption>{escape(kind)}</caption>{rows}</table>"


def fingerprint(config: BaseModel, params: Any, rest: dict[str, Any]) -> str:
    """16 hexadecimal digits of all that makes a model what it is."""
    digest = hashlib.sha256(json.dumps([config.model_dump(mode="json"), rest], sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
