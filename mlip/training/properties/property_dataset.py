"""Data of a property model: the materials and the scale.

A material is represented by its relaxed structure, the end of its relaxation path. The network learns the property
minus its mean, divided by its standard deviation, both from the training split.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float, Int

from mlip.data import Store
from mlip.data.element_vectors import read_element_vectors
from mlip.data.formula import symbols_in
from mlip.data.properties import property_of
from mlip.data.split import nested_choice
from mlip.errors import MlipError
from mlip.functionals import join_functionals
from mlip.graph.labeled_graphs import LabelArrays
from mlip.property_model import PropertyModel
from mlip.training.recipe import PropertyRecipe, Recipe

_STRANGERS = "validation: elements that the training set lacks"


@dataclass(frozen=True, eq=False)
class PropertyDataset:
    """Materials of a run, as indices of frames of its store."""

    property: str
    mean: float
    std: float
    values: Float[np.ndarray, " f"]
    """Property of each frame of the store; NaN for unused frames."""
    train: Int[np.ndarray, " k"]
    validation: Int[np.ndarray, " v"]
    """Validation frames; may be empty."""
    elements: list[str]
    """Symbols, sorted by atomic number: elements of the training split, or all with a given vector."""
    left_out: dict[str, int]
    """Number of materials left out, by reason."""
    functional: str
    """Name of the functional; several are joined by `join_functionals`."""
    notes: tuple[str, ...] = ()

    @property
    def scale(self) -> Float[np.ndarray, ""]:
        """Change of the property per unit of the network's output."""
        return np.array(self.std)

    @cached_property
    def normalized(self) -> Float[np.ndarray, " f"]:
        """Normalized property of each frame, the network's target."""
        return (self.values - self.mean) / self.std

    @property
    def n_left_out(self) -> int:
        """Number of validation materials with an element that the training split lacks."""
        return self.left_out.get(_STRANGERS, 0)

    def describe(self) -> str:
        """Lines for the user about the data at the start of a run."""
        values = self.values[self.train]
        lines = [
            f"train {len(self.train):,} materials ({len(self.elements)} elements), validation "
            f"{len(self.validation):,}, functional {self.functional}",
            f"{self.property}: mean {self.mean:.4g}, standard deviation {self.std:.4g}; a prediction of the median has "
            f"a mean error of {np.abs(values - np.median(values)).mean():.4g} on the training set",
        ]
        lines += [f"{count:,} materials left out: {why}" for why, count in self.left_out.items()]
        return "\n".join([*lines, *self.notes])


@dataclass(frozen=True)
class PropertyLabels:
    """Labels: the normalized property as `globals["property"]` of each graph."""

    values: Float[np.ndarray, " f"]
    """Normalized property of each frame of the store."""
    columns: tuple[str, ...] = field(default=(), init=False)

    def __call__(self, columns: Mapping[str, np.ndarray], indices: Int[np.ndarray, " k"]) -> LabelArrays:
        return LabelArrays({}, {"property": self.values[indices]})


def open_property_dataset(
    store: Store, recipe: Recipe, start: PropertyModel | None = None, remembered: Path | None = None
) -> PropertyDataset:
    """Training and validation materials of a store.

    Args:
        start: model whose mean and standard deviation are kept, unless the recipe says otherwise.
        remembered: file that stores mean and standard deviation, so that a resumed run uses exactly the same ones.

    Raises:
        MlipError: fewer than two training materials have the property, it is the same for all, or fewer have it than
            the recipe requests.
    """
    wanted, left_out = recipe.property, Counter()
    values = np.full(store.n_frames, np.nan)
    frames: dict[str, list[int]] = {"train": [], "val": []}
    ids: dict[str, list[str]] = {"train": [], "val": []}
    formulas: dict[int, str] = {}
    functionals: set[str] = set()
    for material in store.materials():
        if material.split not in frames:
            continue
        frame, value = material.relaxed, property_of(store, material, wanted.name)
        if why := _why_not(wanted, value) or material.why_not_relaxed:
            left_out[why] += 1
            continue
        values[frame], formulas[frame] = value, material.formula
        frames[material.split].append(frame)
        ids[material.split].append(material.id)
        functionals.add(material.functional)
    if wanted.materials is not None:
        frames["train"] = _fewer(frames["train"], ids["train"], wanted.materials, store)
    mean, std = _scale(values[frames["train"]], wanted, store, start, recipe, remembered)
    elements = _elements(recipe, formulas, frames["train"], start)
    validation = [frame for frame in frames["val"] if symbols_in(formulas[frame]) <= set(elements)]
    if strangers := len(frames["val"]) - len(validation):
        left_out[_STRANGERS] = strangers
    return PropertyDataset(
        property=wanted.name,
        mean=mean,
        std=std,
        values=values,
        train=np.array(frames["train"], np.int64),
        validation=np.array(validation, np.int64),
        elements=elements,
        left_out=dict(left_out),
        functional=join_functionals(sorted(functionals)),
        notes=_origin(recipe, start),
    )


def _fewer(frames: list[int], ids: list[str], n: int, store: Store) -> list[int]:
    if n > len(frames):
        raise MlipError(
            f"property.materials is {n:,}, and the training split has {len(frames):,}", where=str(store.path)
        )
    return [frames[k] for k in nested_choice(ids, n)]


def _why_not(wanted: PropertyRecipe, value: float | None) -> str | None:
    """Reason why a material is left out; None if it is used."""
    if value is None:
        return f"{wanted.name} is not known"
    if wanted.largest is not None and value > wanted.largest:
        return f"{wanted.name} > {wanted.largest:g}"
    return None


def _scale(values, wanted: PropertyRecipe, store, start, recipe: Recipe, remembered) -> tuple[float, float]:
    if wanted.mean is not None:
        return wanted.mean, wanted.std
    if remembered is not None and remembered.exists():
        known = json.loads(remembered.read_text())
        return known["mean"], known["std"]
    if len(values) < 2 or not values.std():
        raise MlipError(
            f"{len(values)} training materials with {wanted.name}, or all of one value: nothing to learn",
            where=str(store.path),
            fix="property.name: a scalar of the store, see `mlip data info`",
        )
    mean, std = float(values.mean()), float(values.std(ddof=1))
    if start is not None and _keeps_scale(recipe, start):
        mean, std = start.metadata.mean, start.metadata.std
    if remembered is not None:
        remembered.write_text(json.dumps({"mean": mean, "std": std}))
    return mean, std


def _keeps_scale(recipe: Recipe, start: PropertyModel) -> bool:
    """Whether to keep the starting model's scale; by default only if it predicts the same property."""
    if recipe.init_from.scale is None:
        return start.metadata.property == recipe.property.name
    return recipe.init_from.scale == "keep"


def _origin(recipe: Recipe, start: PropertyModel | None) -> tuple[str, ...]:
    """Line about the origin of mean and standard deviation, unless it is the training set."""
    if recipe.property.mean is not None:
        return ("mean and standard deviation: as property.mean and property.std give them",)
    if start is None:
        return ()
    whose = f"the model's, of {start.metadata.property}" if _keeps_scale(recipe, start) else "the training set's"
    return (f"from {recipe.init_from.potential}: mean and standard deviation are {whose}",)


def _elements(recipe: Recipe, formulas: dict[int, str], train: list[int], start: PropertyModel | None) -> list[str]:
    """Symbols of the elements for which predictions are possible, sorted by atomic number."""
    found = set().union(*(symbols_in(formulas[frame]) for frame in train))
    if recipe.property.element_vectors is not None:
        given = set(read_element_vectors(recipe.property.element_vectors))
        if strangers := sorted(found - given):
            raise MlipError(f"no vector of {', '.join(strangers)}", where=str(recipe.property.element_vectors))
        found = {s for s in given if atomic_numbers[s] in recipe.model.known_numbers}
    elif start is not None:
        found |= set(start.elements)
    return sorted(found, key=atomic_numbers.__getitem__)
