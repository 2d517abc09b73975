"""Potentials by name: what is known of each, where its weights come from, and its file in mlip's format.

Weights of our own lie in `weights/`. Nothing of others' weights is in this package: their name is fetched from its
publisher, checked by the SHA-256 that is pinned here, and converted once, into the cache. Knows no JAX: the conversion
runs in a process of its own.
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
