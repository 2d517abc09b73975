"""Training from an existing potential: the energy scale, and replay of frames that it was trained on."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from mlip.data import Store
from mlip.errors import MlipError
from mlip.models import heads_of
from mlip.potential import Head, Potential
from mlip.training.potentials.potential_dataset import Dataset, energy_scale, frames_of_elements, head_of_each_material
from mlip.training.recipe import Recipe

_SAMPLE = 4096
"""Number of frames for refitting reference energies."""
_SINGULAR = 1e-6
"""Relative size below which singular values are dropped: the corresponding combination of elements does not vary
independently in the sample."""


def take_over_energies(
    data: Dataset, recipe: Recipe, potential: Potential, store: Store, remembered: Path | None = None
) -> Dataset:
    """The data on the potential's energy scale, adjusted according to `init_from`.

    Args:
        store: store of the training frames, without replayed ones.
        remembered: file that stores the result, so that a resumed run uses exactly the same energies.
    """
    if remembered is not None and remembered.exists():
        heads = {name: Head(**head) for name, head in json.loads(remembered.read_text()).items()}
    else:
        heads = {name: _adjusted_head(name, data, recipe, potential, store) for name in data.heads}
        if remembered is not None:
            remembered.write_text(json.dumps({name: head.model_dump() for name, head in heads.items()}))
    how = {"refit": "refitted by its errors on the training set", "keep": "kept"}
    note = (
        f"from {recipe.init_from.potential}: reference energies {how[recipe.init_from.reference_energies]}, "
        f"scale {'that of the training set' if recipe.init_from.scale == 'refit' else 'kept'}"
    )
    return replace(data, heads=heads, notes=(*data.notes, note))


def _adjusted_head(name: str, data: Dataset, recipe: Recipe, potential: Potential, store: Store) -> Head:
    single = len(data.heads) == 1
    own = potential.metadata if single else potential.metadata.heads[name]
    energies = {symbol: energy + own.shift for symbol, energy in own.reference_energies.items()}
    if strangers := sorted(set(data.statistics[name].elements) - set(energies)):
        raise MlipError(
            f"the potential does not know {', '.join(strangers)} of the training set",
            where=str(recipe.init_from.potential),
            fix="leave such materials out, or train from scratch",
        )
    if recipe.init_from.reference_energies == "refit":
        frames = store.indices("train", None if single else name)
        for symbol, error in _composition_errors(potential.of_head(None if single else name), store, frames).items():
            energies[symbol] += error
    refit_scale = recipe.init_from.scale == "refit"
    scale = energy_scale(data.statistics[name]) if refit_scale else own.scale
    return Head(reference_energies=energies, scale=scale, functional=data.heads[name].functional)


def _composition_errors(potential: Potential, store: Store, frames: Int[np.ndarray, " k"]) -> dict[str, float]:
    """Least-squares fit of the potential's energy errors (label minus prediction) to compositions, over a sample of the
    frames; eV by symbol."""
    if len(frames) > _SAMPLE:
        frames = np.sort(np.random.default_rng(0).choice(frames, _SAMPLE, replace=False))
    labeled = [frame for frame in map(store.frame, map(int, frames)) if frame.energy is not None]
    labeled = [frame for frame in labeled if math.isfinite(frame.energy)]
    # Sorted by size, so that batches need less padding.
    labeled.sort(key=len)
    predicted = np.array([result["energy"] for result in potential.predict(labeled)])
    errors = np.array([frame.energy for frame in labeled]) - predicted
    composition = np.array([np.bincount(frame.numbers, minlength=len(chemical_symbols)) for frame in labeled])
    return _least_squares(composition, errors)


def _least_squares(composition: Int[np.ndarray, "k 119"], errors: Float[np.ndarray, " k"]) -> dict[str, float]:
    n_atoms = composition.sum(axis=1)
    present = np.flatnonzero(composition.any(axis=0))
    rows = composition[:, present] / n_atoms[:, None]
    solution, *_ = np.linalg.lstsq(rows, errors / n_atoms, rcond=_SINGULAR)
    return {chemical_symbols[z]: float(value) for z, value in zip(present, solution, strict=True)}


def add_replay(data: Dataset, recipe: Recipe, n_frames: int) -> Dataset:
    """The data with frames of the store in `data.replay`, which are indexed after the `n_frames` of the first store.

    Raises:
        MlipError: the store has no training frames with known elements only.
    """
    replay = recipe.data.replay
    with Store(replay.store) as store:
        known = frames_of_elements(store, "train", None, data.elements)
        heads = data.head_of_material
        if heads is not None:
            functionals = {material.functional for material in store.materials()}
            heads = np.concatenate([heads, head_of_each_material(store, heads_of(recipe.model), functionals)])
    if not len(known):
        raise MlipError("no training frame of elements that the potential knows", where=str(replay.store))
    return replace(data, replayed=known + n_frames, head_of_material=heads)
