"""Reading a recipe: a YAML file and values from the command line, checked before anything is computed.

An unknown key, a value of the wrong type or a path that is not there is one line that names the key, the nearest
known one and the file.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from yaml import YAMLError

from mlip.errors import MlipError
from mlip.model_file import read_model_file
from mlip.models import config_class, model_names, property_model_names
from mlip.training.recipe import InitRecipe, Recipe


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe in the YAML file `path`; `overrides` are `key.key=value`, applied last.

    Raises:
        MlipError: for anything in it that cannot be run as written.
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
    """As `load_recipe`; its data may be elsewhere by now.

    Raises:
        MlipError: for anything in it that is no recipe.
    """
    path = Path(path)
    if not path.is_file():
        raise MlipError("no such recipe", where=str(path), fix="give the path of a YAML file, see recipes/")
    try:
        written = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise MlipError(f"not readable as YAML: {_one_line(error)}", where=str(path)) from None
    given = _parse_overrides(overrides)
    if not isinstance(written, DictConfig):
        known = ", ".join(Recipe.model_fields)
        raise MlipError(f"a recipe is a mapping with the keys {known}", where=str(path))
    try:
        values = OmegaConf.to_container(OmegaConf.merge(written, given), resolve=True)
    except OmegaConfBaseException as error:
        raise MlipError(_one_line(error), where=str(path)) from None
    return _validate(values, where=str(path), given=OmegaConf.to_container(given))


def _parse_overrides(overrides: Sequence[str]):
    for item in overrides:
        if "=" not in item:
            raise MlipError(f"cannot read {item!r}", where="command line", fix="write key.key=value")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (YAMLError, OmegaConfBaseException) as error:
        raise MlipError(_one_line(error), where="command line") from None


def _validate(values: dict, *, where: str, given: Mapping) -> Recipe:
    if "model" not in values and values.get("init_from") is not None:
        values = values | {"model": _model_of(values["init_from"], where=where, given=given)}
    model = values.get("model")
    if isinstance(model, dict):  # which keys this section has depends on the model that it names
        known = [*model_names(), *property_model_names()]
        if model.get("model") not in known:
            raise MlipError(
                f"model.model: no model is called {model.get('model')!r}",
                where=where,
                fix=f"one of: {', '.join(known)}",
            )
        schema = config_class(model["model"])
        values = values | {"model": _checked(schema, model, ("model",), where=where, given=given)}
    return _checked(Recipe, values, (), where=where, given=given)


def _model_of(init_from: Any, *, where: str, given: Mapping) -> dict:
    """The config of the model that training starts from."""
    init = _checked(InitRecipe, init_from, ("init_from",), where=where, given=given)
    header, _ = read_model_file(init.potential)
    return dict(header["config"])


def _checked(schema: type[BaseModel], values: dict, prefix: tuple, *, where: str, given: Mapping) -> Any:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        # A misspelt key is also a missing one: the unknown name is what helps.
        first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    loc = (*prefix, *first["loc"])
    key = ".".join(map(str, loc))
    where = "command line" if _is_set(given, loc) else where
    if first["type"] == "extra_forbidden":
        known = list(_section(schema, first["loc"]).model_fields)
        raise MlipError(f"unknown key {key}", where=where, fix=_suggestion(loc, known))
    if first["type"] == "missing":
        raise MlipError(f"{key} is missing", where=where)
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], dict):  # a rule between keys: the message names them
        raise MlipError(f"{key}: {message}", where=where)
    raise MlipError(f"{key}: {message[0].lower()}{message[1:]}, not {first['input']!r}", where=where)


def _section(schema: type[BaseModel], loc: tuple) -> type[BaseModel]:
    """The config class whose keys the last element of `loc` should have been among."""
    for name in loc[:-1]:
        if name in schema.model_fields:  # otherwise it is a key of a mapping from names to sections
            schema = _class_in(schema.model_fields[name].annotation)
    return schema


def _class_in(annotation: Any) -> type[BaseModel]:
    """The config class of a section, also of X | None and of dict[str, X]."""
    parts = (annotation, *get_args(annotation))
    return next(part for part in parts if isinstance(part, type) and issubclass(part, BaseModel))


def _suggestion(loc: tuple, known: list[str]) -> str:
    near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {'.'.join([*map(str, loc[:-1]), near[0]])}?"
    return f"known: {', '.join(known)}"


def _is_set(values: Any, loc: tuple) -> bool:
    for name in loc:
        if not isinstance(values, Mapping) or name not in values:
            return False
        values = values[name]
    return bool(loc)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
