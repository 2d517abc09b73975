"""Fields of a model's config that a recipe omits and that are measured on the training split."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Int
from pydantic import BaseModel

from mlip.data import Store
from mlip.errors import MlipError
from mlip.graph.neighbors import neighbor_list
from mlip.training.recipe import Recipe, left_to_data
from mlip.training.task import TrainingData

_SAMPLE = 2048
"""Number of frames for counting neighbors. It gives the mean to one percent, more than a normalization needs."""


def complete_recipe(recipe: Recipe, store: Store, data: TrainingData, remembered: Path | None = None) -> Recipe:
    """The recipe with every field of its model set, by the recipe or from the training split.

    Args:
        remembered: file that stores the model's config, so that a resumed run uses exactly the same one.

    Raises:
        MlipError: the data do not allow the measurement.
    """
    names = left_to_data(recipe.model)
    if not names:
        return recipe
    if remembered is not None and remembered.exists():
        model = type(recipe.model).model_validate_json(remembered.read_text())
    else:
        model = recipe.model.model_copy(update={name: _MEASURES[name](recipe.model, store, data) for name in names})
        if remembered is not None:
            remembered.write_text(model.model_dump_json() + "\n")
    return recipe.model_copy(update={"model": model})


def describe_measured(recipe: Recipe, complete: Recipe) -> list[str]:
    """Line for the user about what the recipe omitted and what was measured instead."""
    model = complete.model
    said = {
        "elements": lambda: f"{len(model.elements)} elements",
        "mean_neighbors": lambda: f"{model.mean_neighbors:.2f} neighbors an atom within {model.cutoff:g} Å",
    }
    measured = [said[name]() for name in sorted(left_to_data(recipe.model))]
    return [f"measured on the training set, as the recipe leaves it out: {', '.join(measured)}"] if measured else []


def mean_neighbors(store: Store, indices: Int[np.ndarray, " k"], cutoff: float) -> float:
    """Mean number of neighbors within `cutoff` (A), over the atoms that have any, as in mace-torch.

    Raises:
        MlipError: no atom has a neighbor.
    """
    if len(indices) > _SAMPLE:
        indices = np.sort(np.random.default_rng(0).choice(indices, _SAMPLE, replace=False))
    n_edges = n_atoms = 0
    for frame in map(store.frame, map(int, indices)):
        receivers = neighbor_list(frame.positions, frame.cell, frame.pbc, cutoff).receivers
        n_edges += len(receivers)
        n_atoms += len(np.unique(receivers))
    if not n_atoms:
        raise MlipError(
            f"no atom of the training set has a neighbor within {cutoff:g} A",
            where=str(store.path),
            fix="set model.mean_neighbors, or a longer model.cutoff",
        )
    return n_edges / n_atoms


_MEASURES: dict[str, Callable[[BaseModel, Store, TrainingData], object]] = {
    "elements": lambda model, store, data: tuple(atomic_numbers[symbol] for symbol in data.elements),
    "mean_neighbors": lambda model, store, data: mean_neighbors(store, data.train, model.cutoff),
}
