"""Replaces the labels of a store's frames by a potential's predictions, for replay of its knowledge in later
training."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.formula import Formula

from mlip.curvature import random_direction, with_curvature
from mlip.data import Store, StoreWriter, Trajectory
from mlip.data.records import Frame
from mlip.data.store import Material
from mlip.errors import MlipError
from mlip.functionals import relation_of_functionals
from mlip.potential import Potential

_CHUNK = 1024
"""Approximate number of frames predicted at once."""


def relabel(
    potential: Potential,
    store: Store,
    out: Path,
    *,
    provenance: dict[str, Any] | None = None,
    dtype: str = "float32",
    hessian: bool = False,
) -> dict[str, int]:
    """Write a store with the same frames and splits, and with predicted energies, forces and stresses.

    The new labels are of the potential's functional, known or not. Where it has several, a material of one of them
    keeps that one's name.

    Scalar properties are kept; magnetic moments are not, because they belong to the old labels. Materials with elements
    unknown to the potential are left out.

    Args:
        provenance: recorded in the new store's metadata.
        hessian: add the product of the Hessian with a random direction, which differs between frames.

    Returns:
        Counts: materials, frames, left_out (materials).

    Raises:
        MlipError: `out` is part of `store`, or no material is left.
    """
    if out.resolve() in {shard.path.resolve() for shard in store.shards}:
        raise MlipError("would replace the store that is read", where=str(out), fix="--out ANOTHER.h5")
    known = set(potential.elements)
    counts = {"materials": 0, "frames": 0, "left_out": 0}
    with StoreWriter(out, {"relabeled": provenance or {}}) as writer:
        for materials in _chunks(store, known, counts):
            frames = [store.frame(k) for material in materials for k in material.frames]
            labeled = _labeled(potential, frames, dtype)
            if hessian:
                rng = np.random.default_rng(counts["frames"])
                directed = [replace(frame, direction=random_direction(len(frame), rng)) for frame in labeled]
                labeled = with_curvature(potential, directed, dtype)
            predicted = iter(labeled)
            for material in materials:
                own = [next(predicted) for _ in material.frames]
                functional = _functional_of_labels(potential, material)
                writer.add(
                    Trajectory(material.id, own, functional, material.dimensionality, material.properties),
                    material.split,
                )
                counts["materials"] += 1
                counts["frames"] += len(own)
        if not counts["materials"]:
            raise MlipError("no material of elements that the potential knows", where=str(store.path))
    return counts


def _functional_of_labels(potential: Potential, material: Material) -> str:
    relation = relation_of_functionals(potential.metadata.functional, material.functional)
    return material.functional if relation == "same" else potential.metadata.functional


def _chunks(store: Store, known: set[str], counts: dict[str, int]) -> Iterator[list[Material]]:
    """Materials with known elements only, in groups whose frames fill a chunk."""
    chunk, n_frames = [], 0
    for material in store.materials():
        if not set(Formula(material.formula).count()) <= known:
            counts["left_out"] += 1
            continue
        chunk.append(material)
        n_frames += len(material.frames)
        if n_frames >= _CHUNK:
            yield chunk
            chunk, n_frames = [], 0
    if chunk:
        yield chunk


def _labeled(potential: Potential, frames: list[Frame], dtype: str) -> list[Frame]:
    unknown = {"magmoms": None, "direction": None, "curvature": None}
    return [
        replace(frame, energy=found["energy"], forces=found["forces"], stress=found["stress"], **unknown)
        for frame, found in zip(frames, potential.predict(frames, dtype=dtype), strict=True)
    ]
