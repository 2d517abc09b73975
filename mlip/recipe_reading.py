"""Recipes: a YAML file and values from the command line, checked against a pydantic section before anything runs.

An unknown key or a value of the wrong type gives a one-line error with the key, the closest known key and the file.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from yaml import YAMLError

from mlip.errors import MlipError
from mlip.files.known_folders import packaged_files

Schema = TypeVar("Schema", bound=BaseModel)


def read_recipe(path: str | Path, schema: type[Schema], overrides: Sequence[str] = ()) -> Schema:
    """Read the recipe in the YAML file `path`, or the recipe of mlip with that name; `overrides` are `key.key=value`
    and applied last.

    Raises:
        MlipError: the file does not exist or is not YAML, a key is unknown, or the schema rejects a value.
    """
    values, given = read_values(path, schema, overrides)
    return checked(schema, values, where=str(path), given=given)


def find_recipe(name: str | Path) -> Path:
    """File of a recipe: a path, or the name of one of mlip's recipes, such as "mace-2d".

    Raises:
        MlipError: there is neither; suggests similar names.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = packaged_files("recipes")
    if (found := known.get(str(name))) is not None:
        return found
    near = difflib.get_close_matches(str(name), known, n=3)
    fix = f"did you mean {' or '.join(near)}?" if near else "give a YAML file, or a name that `mlip recipes` lists"
    raise MlipError("no such recipe", where=str(name), fix=fix)


def read_values(
    path: str | Path, schema: type[BaseModel], overrides: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Unchecked values of a YAML file merged with the command line, and the values of the command line alone.

    Raises:
        MlipError: the file does not exist, is not YAML, or holds no mapping.
    """
    path = find_recipe(path)
    try:
        written = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise MlipError(f"not readable as YAML: {_one_line(error)}", where=str(path)) from None
    given = _parse_overrides(overrides)
    if not isinstance(written, DictConfig):
        raise MlipError(f"a recipe is a mapping with the keys {', '.join(schema.model_fields)}", where=str(path))
    try:
        values = OmegaConf.to_container(OmegaConf.merge(written, given), resolve=True)
    except OmegaConfBaseException as error:
        raise MlipError(_one_line(error), where=str(path)) from None
    return values, OmegaConf.to_container(given)


def dotted(values: Mapping[str, Any]) -> list[str]:
    """Nested values in the form of command-line overrides: {"train": {"epochs": 5}} is ["train.epochs=5"]."""
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{key}.{line}" for line in dotted(value)]
        else:
            lines.append(f"{key}={json.dumps(value, default=str)}")
    return lines


def _parse_overrides(overrides: Sequence[str]) -> DictConfig:
    for item in overrides:
        if "=" not in item:
            raise MlipError(f"cannot read {item!r}", where="command line", fix="write key.key=value")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (YAMLError, OmegaConfBaseException) as error:
        raise MlipError(_one_line(error), where="command line") from None


def checked(schema: type[Schema], values: Any, *, where: str, given: Any, section: tuple[str, ...] = ()) -> Schema:
    """Validate values against a schema.

    Args:
        where: name of the recipe in errors.
        given: values from the command line; errors in these name the command line instead of `where`.
        section: keys of the recipe's section that holds `values`, for errors; empty for the whole recipe.

    Raises:
        MlipError: the schema rejects a value.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        # A misspelled key also makes the correct one missing; report the unknown name.
        first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    names, kind = _place(schema, first["loc"])
    loc = (*section, *names)
    key = ".".join(map(str, loc))
    where = "command line" if _is_set(given, loc) else where
    if first["type"] == "extra_forbidden":
        raise MlipError(f"unknown key {key}", where=where, fix=_suggestion(loc, kind))
    if first["type"] == "missing":
        raise MlipError(f"{key} is missing", where=where)
    if first["type"].startswith("union_tag"):
        raise _unknown_kind(key, first["ctx"], where)
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], dict):  # a rule about several keys: the message names them
        raise MlipError(": ".join(filter(None, (key, message))), where=where)
    raise MlipError(f"{key}: {message[0].lower()}{message[1:]}, not {first['input']!r}", where=where)


def _place(schema: type[BaseModel], loc: tuple) -> tuple[tuple, type[BaseModel]]:
    """Keys that lead to a place in a recipe, and the section whose keys should include the last of them.

    For a section of several kinds, pydantic's location contains the kind as if it were a key.
    """
    names: list[Any] = []
    sections = [schema]
    for name in loc:
        if len(sections) > 1:
            sections = [one for one in sections if name in _kinds(one)] or sections[:1]
            continue
        names.append(name)
        field = sections[0].model_fields.get(name)
        if len(names) < len(loc) and field is not None:  # otherwise a key of a mapping from names to sections
            sections = _classes_in(field.annotation) or sections
    return tuple(names), sections[0]


def _classes_in(annotation: Any) -> list[type[BaseModel]]:
    """Schemas in an annotation, including those of X | None and dict[str, X]; X | Y has several."""
    parts = (annotation, *get_args(annotation))
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]


def _kinds(section: type[BaseModel]) -> tuple:
    """Values of the key that distinguishes a section of several kinds."""
    return tuple(value for field in section.model_fields.values() for value in get_args(field.annotation))


def _unknown_kind(key: str, context: Mapping[str, Any], where: str) -> MlipError:
    discriminator = context["discriminator"].strip("'")
    if "tag" not in context:
        return MlipError(f"{key}.{discriminator} is missing", where=where)
    return MlipError(
        f"{key}.{discriminator}: there is no {context['tag']!r}", where=where, fix=f"one of {context['expected_tags']}"
    )


def _suggestion(loc: tuple, section: type[BaseModel]) -> str:
    known = list(section.model_fields)
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
