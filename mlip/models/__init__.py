"""The registry of models: a name in a config leads to its config class and its flax module.

A model is a file here and a line in `_MODELS`. Its module has the attribute `config` (frozen pydantic, JSON
round-trip, with `model` = its registry name, `cutoff` in A and the atomic `known_numbers`) and maps a graph whose
edges carry "vectors" to an energy per node. A config may name the fields that training measures where a recipe leaves
them out, `measured_on_data`, of those that `mlip.training.measured` knows.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from ase.data import atomic_numbers
from flax import linen as nn
from pydantic import BaseModel, ValidationError

from mlip.errors import MlipError

_MODELS = {
    "mace": ("mlip.models.mace", "MACEConfig", "MACE"),
    "m3gnet": ("mlip.models.m3gnet", "M3GNetConfig", "M3GNet"),
}
_PROPERTY_MODELS = {
    "cgat": ("mlip.models.cgat", "CGATConfig", "CGAT"),
}
"""Their modules map a batch of their own kind to a prediction a crystal; `example_batch(config)` is a small one."""


def model_names() -> list[str]:
    """The names that a potential's `model` may have."""
    return sorted(_MODELS)


def property_model_names() -> list[str]:
    """The names that a property model's `model` may have."""
    return sorted(_PROPERTY_MODELS)


def example_batch(config: BaseModel) -> Any:
    """What a property model can be initialised with."""
    return import_module(_PROPERTY_MODELS[config.model][0]).example_batch(config)


def _lookup(name: str) -> tuple[type[BaseModel], type[nn.Module]]:
    known = _MODELS | _PROPERTY_MODELS
    if name not in known:
        raise MlipError(f"unknown model {name!r}", where="model", fix=f"one of: {', '.join(sorted(known))}")
    module, config, model = known[name]
    room = import_module(module)
    return getattr(room, config), getattr(room, model)


def config_class(name: str) -> type[BaseModel]:
    """The pydantic class of the model `name`."""
    return _lookup(name)[0]


def parse_config(values: dict[str, Any]) -> BaseModel:
    """A model's config from plain values; `values["model"]` is its name.

    Raises:
        MlipError: unknown model, unknown key or a value of the wrong type.
    """
    if "model" not in values:
        raise MlipError("no model is named", where="model", fix=f"model: {' | '.join(model_names())}")
    try:
        return config_class(values["model"]).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise MlipError(f"{key}: {first['msg']}", where=f"model {values['model']}") from None


def check_elements(config: BaseModel, symbols: Iterable[str]) -> None:
    """
    Raises:
        MlipError: naming the elements that a network of this config has no parameters for.
    """
    if strangers := [symbol for symbol in symbols if atomic_numbers[symbol] not in config.known_numbers]:
        raise MlipError(
            f"the network has no parameters for {', '.join(strangers)}",
            where=f"model {config.model}",
            fix="give it more elements in the recipe's `model`, or leave these materials out",
        )


def heads_of(config: BaseModel) -> tuple[str, ...]:
    """The levels of theory that share a network; models that know of no heads have one."""
    return getattr(config, "heads", ("default",))


def select_head(config: BaseModel, params: dict, head: str) -> tuple[BaseModel, dict]:
    """Config and parameters of one of the `config.heads`, by itself; a model that has several knows how."""
    return import_module(_MODELS[config.model][0]).select_head(config, params, head)


def build_model(config: BaseModel) -> nn.Module:
    """The flax module of a config."""
    return _lookup(config.model)[1](config)
