"""Reads recipes from a YAML file and command-line values, and checks them before any computation.

An unknown key, a value of the wrong type or a missing path gives a one-line error with the key, the closest known key
and the file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlip.errors import MlipError
from mlip.model_file import read_model_file
from mlip.models import as_spelled_now, config_class, model_names
from mlip.recipe_reading import checked, read_values
from mlip.training.recipe import InitRecipe, Recipe


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe in the YAML file `path`, or the recipe of mlip with that name; `overrides` are `key.key=value`
    and applied last.

    Raises:
        MlipError: the recipe cannot be run as written.
    """
    recipe = read_recipe(path, overrides)
    stores = [("data.store", store) for store in recipe.data.stores]
    if recipe.data.replay is not None:
        stores.append(("data.replay.store", recipe.data.replay.store))
    for key, store in stores:
        if not store.exists():
            raise MlipError(
                f"{key}: no such file or folder: {store}",
                where=str(path),
                fix=f"make it with `mlip data build`, or set {key}=PATH",
            )
    return recipe


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe like `load_recipe`, without checking that its data exist.

    Raises:
        MlipError: it is not a valid recipe.
    """
    values, given = read_values(path, Recipe, overrides)
    origin = {"where": str(path), "given": given}
    if "model" not in values and values.get("init_from") is not None:
        values = values | {"model": _model_of(values["init_from"], origin)}
    model = values.get("model")
    if isinstance(model, dict):  # the keys of this section depend on the model that it names
        if model.get("model") not in model_names():
            raise MlipError(
                f"model.model: no model is called {model.get('model')!r}",
                where=str(path),
                fix=f"one of: {', '.join(model_names())}",
            )
        schema = config_class(model["model"])
        values = values | {"model": checked(schema, as_spelled_now(model), section=("model",), **origin)}
    return checked(Recipe, values, **origin)


def _model_of(init_from: Any, origin: Mapping[str, Any]) -> dict:
    """Config of the model from which training starts."""
    init = checked(InitRecipe, init_from, section=("init_from",), **origin)
    header, _ = read_model_file(init.potential)
    return dict(header["config"])
