"""Predictions of a potential for a split of its store, frame by frame, on a sample if the split is large."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from mlip.data import Store
from mlip.evaluation.comparison import Comparison, LabeledFrame, concatenate
from mlip.evaluation.evaluate import compared
from mlip.evaluation.frame_errors import Errors
from mlip.potential import Potential
from mlip.runtime import precision_scope


@dataclass(frozen=True)
class SplitErrors:
    """Frames of one split with their labels and predictions, which are finite wherever there is a label."""

    split: str
    """Name of the split, 'val' or 'test'."""
    n_frames: int
    """Number of frames of the split; fewer may be compared."""
    errors: Errors
    items: list[LabeledFrame]
    comparison: Comparison
    """Labels and predictions of `items`, in the same order."""

    @property
    def name(self) -> str:
        """Name of the split for display."""
        return {"val": "validation"}.get(self.split, self.split)

    @property
    def energy_errors(self) -> Float[np.ndarray, " k"]:
        """Absolute energy error of each frame, eV/atom; NaN without a label."""
        return np.abs(self.comparison.energy.errors)

    @property
    def force_errors(self) -> Float[np.ndarray, " k"]:
        """Largest force error |F - F'| of an atom in each frame, eV/A; NaN without labels."""
        of_atoms = np.linalg.norm(self.comparison.forces.errors, axis=1)
        starts = np.cumsum(self.comparison.n_atoms) - self.comparison.n_atoms
        return np.fmax.reduceat(of_atoms, starts)

    @property
    def stress_errors(self) -> Float[np.ndarray, " k"]:
        """Largest stress error of a component in each frame, GPa; NaN without labels."""
        errors = np.abs(self.comparison.stress.errors)
        return np.fmax.reduce(errors, axis=1)


def evaluate_split(potential: Potential, store: Store, split: str, at_most: int) -> SplitErrors | None:
    """Predictions for at most `at_most` frames of a split, evenly selected; None if nothing can be compared."""
    errors = Errors()
    parts: list[tuple[list[LabeledFrame], Comparison]] = []
    share = max(at_most // len(potential.heads), 1)
    with precision_scope("float32"):
        for head in potential.heads:
            functional = head if len(potential.heads) > 1 else None
            frames = labeled_frames(store, evenly_chosen(store.indices(split, functional), share))
            for items, comparison in compared(potential.of_head(head), frames, errors=errors):
                errors.add(comparison)
                is_finite = comparison.is_finite
                sound = [item for item, is_sound in zip(items, is_finite, strict=True) if is_sound]
                parts.append((sound, comparison.at(is_finite)))
    items = [item for part, _ in parts for item in part]
    if not items:
        return None
    comparison = concatenate([comparison for _, comparison in parts])
    return SplitErrors(split, len(store.indices(split)), errors, items, comparison)


def evenly_chosen(indices: Int[np.ndarray, " k"], at_most: int) -> Int[np.ndarray, " m"]:
    """At most `at_most` of the indices, evenly spread over the whole range."""
    if len(indices) <= at_most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, at_most).round().astype(int)]


def labeled_frames(store: Store, indices: Int[np.ndarray, " k"]) -> Iterator[LabeledFrame]:
    """Labeled frames with these indices, in order."""
    material_at = cache(store.material)  # consecutive frames belong to one material
    for k in map(int, indices):
        material = material_at(store.material_of(k))
        yield LabeledFrame(store.frame(k), material.id, material.dimensionality, material.functional)
