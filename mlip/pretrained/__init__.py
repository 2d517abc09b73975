"""Potentials by name: what is known about each, where its weights come from, and its file in mlip's format.

Weights of our own lie in `weights/`. This package contains no weights of others: they are downloaded from their
publisher, checked against the SHA-256 that is pinned here, and converted once, into the cache. The package does not
import JAX: the conversion runs in a separate process.
"""

from mlip.pretrained.entry import PretrainedEntry
from mlip.pretrained.obtaining import obtain
from mlip.pretrained.registry import declared_name, default_potential, find, known
from mlip.pretrained.resolving import resolve, split_potential

__all__ = [
    "PretrainedEntry",
    "declared_name",
    "default_potential",
    "find",
    "known",
    "obtain",
    "resolve",
    "split_potential",
]
