"""Sources of an epoch: training frames by store, functional or dimensionality with their weights, and replayed
frames."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mlip.data import Store
from mlip.errors import MlipError
from mlip.graph.order import EpochOrder, Source
from mlip.training.recipe import DataRecipe
from mlip.training.task import ReplayingData, TrainingData


class Epoch(NamedTuple):
    sources: dict[Hashable, Source]
    """Sources by name."""
    n_frames: int
    """Number of frames per epoch, over all sources."""


def epoch_of(recipe: DataRecipe, store: Store, data: TrainingData | ReplayingData) -> Epoch:
    """Sources of an epoch; each training frame occurs once if the recipe has neither weights nor replay.

    Args:
        store: the recipe's stores, concatenated.

    Raises:
        MlipError: a source has frames but no weight or a weight but no frames, or the weights do not match the stores.
    """
    n_frames = len(data.train)
    if recipe.weights is not None:
        return Epoch(_weighted(recipe, store, data.train), n_frames)
    if recipe.replay is None:
        return Epoch({"all": Source(data.train, 1.0)}, n_frames)
    n_replayed = max(1, round(n_frames * recipe.replay.share / (1 - recipe.replay.share)))
    new = Source(data.train, n_frames)
    sources = {"training set": new, f"replay of {recipe.replay.store}": Source(data.replayed, n_replayed)}
    return Epoch(sources, n_frames + n_replayed)


def _weighted(recipe: DataRecipe, store: Store, frames: Int[np.ndarray, " k"]) -> dict[Hashable, Source]:
    kind, weights = recipe.weights.chosen
    if kind == "store":
        if len(weights) != len(recipe.stores):
            raise MlipError(f"data.weights are {len(weights)}, data.store are {len(recipe.stores)}: one weight a store")
        names = list(map(str, recipe.stores))
        if len(set(names)) < len(names):
            raise MlipError("data.store names the same store twice", fix="give it twice the weight")
        weights = dict(zip(names, weights, strict=True))
        source_of_material = _repeated(recipe.stores)
    else:
        names = sorted({getattr(material, kind) for material in store.materials()})
        places = {name: place for place, name in enumerate(names)}
        source_of_material = np.array([places[getattr(material, kind)] for material in store.materials()])
    source_of_frame = source_of_material[store.gather(("frames/material",), frames)["material"]]
    found = {name: frames[source_of_frame == place] for place, name in enumerate(names)}
    found = {name: indices for name, indices in found.items() if len(indices)}
    for of, others, what in ((found, weights, "a weight"), (weights, found, "training frames")):
        if lacking := [str(name) for name in of if name not in others]:
            raise MlipError(
                f"data.weights: {kind} {', '.join(lacking)} has no {what.removeprefix('a ')}",
                where=str(store.path),
                fix=f"there are {', '.join(map(str, found))}; each needs one weight",
            )
    return {name: Source(indices, weights[name]) for name, indices in found.items()}


def _repeated(stores: Sequence) -> Int[np.ndarray, " m"]:
    """Index of the store of each material."""
    counts = []
    for path in stores:
        with Store(path) as store:
            counts.append(store.n_materials)
    return np.repeat(np.arange(len(counts)), counts)


def describe_epoch(epoch: Epoch) -> list[str]:
    """Lines for the user about the frames of each source per epoch."""
    if len(epoch.sources) == 1:
        return []
    order = EpochOrder(list(epoch.sources.values()), seed=0, n_frames=epoch.n_frames)
    return [
        f"{name}: {count:,} frames an epoch ({count / order.n_frames:.1%}), each of its {len(source.indices):,} seen "
        f"{count / len(source.indices):.2g} times"
        for (name, source), count in zip(epoch.sources.items(), order.counts.tolist(), strict=True)
    ]
