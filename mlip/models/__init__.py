"""Registry of models: the name in a config determines its config class and its flax module.

Each model is a file in this folder and a line in `_MODELS`. Its flax module has the attribute `config`, a frozen
pydantic model that survives a JSON round trip, with `model` (its registry name), the atomic `known_numbers`, and
`inputs`, the graph or composition that it reads (`mlip.graph.inputs`). The network of a potential maps a graph whose
edges carry "vectors" to an energy per node; that of a property maps its inputs to (value, uncertainty) per structure.
`measured_on_data` of a config lists the fields that training measures if a recipe omits them; `mlip.training.measured`
implements them.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any, Literal, NamedTuple

from ase.data import atomic_numbers
from flax import linen as nn
from pydantic import BaseModel, ValidationError

from mlip.errors import MlipError

Target = Literal["energy", "property"]


class _Entry(NamedTuple):
    module: str
    config: str
    network: str
    target: Target
    is_trained: bool = True
    """Whether a recipe may name this model; others are assembled from trained ones."""


_MODELS = {
    "mace": _Entry("mlip.models.mace", "MACEConfig", "MACE", "energy"),
    "mattersim": _Entry("mlip.models.mattersim", "MatterSimConfig", "MatterSim", "energy"),
    "m3gnet": _Entry("mlip.models.m3gnet", "M3GNetConfig", "M3GNet", "energy"),
    "nequip": _Entry("mlip.models.nequip", "NequIPConfig", "NequIP", "energy"),
    "ensemble": _Entry("mlip.models.ensemble", "EnsembleConfig", "Ensemble", "energy", is_trained=False),
    "m3gnet-property": _Entry("mlip.models.m3gnet_property", "M3GNetPropertyConfig", "M3GNetProperty", "property"),
    "crabnet": _Entry("mlip.models.crabnet", "CrabNetConfig", "CrabNet", "property"),
    "alignn": _Entry("mlip.models.alignn", "ALIGNNConfig", "ALIGNN", "property"),
    "cgat": _Entry("mlip.models.cgat", "CGATConfig", "CGAT", "property"),
}


def model_names(target: Target | None = None) -> list[str]:
    """Values that `model` may have in a recipe, for potentials ("energy"), for properties, or for both."""
    return sorted(name for name, entry in _MODELS.items() if entry.is_trained and target in (None, entry.target))


def target_of(config: BaseModel) -> Target:
    """Whether a network belongs to a potential ("energy") or predicts a property ("property")."""
    return _entry(config.model).target


def _entry(name: str) -> _Entry:
    if name not in _MODELS:
        raise MlipError(f"unknown model {name!r}", where="model", fix=f"one of: {', '.join(model_names())}")
    return _MODELS[name]


def config_class(name: str) -> type[BaseModel]:
    """Pydantic config class of the model `name`."""
    entry = _entry(name)
    return getattr(import_module(entry.module), entry.config)


def build_model(config: BaseModel) -> nn.Module:
    """The flax module of a config."""
    entry = _entry(config.model)
    return getattr(import_module(entry.module), entry.network)(config)


_NAMES_OF_0_1 = {"mean_neighbours": "mean_neighbors"}
_VALUES_OF_0_1 = {"centre": "center", "neighbour": "neighbor"}


def as_spelled_now(values: dict[str, Any]) -> dict[str, Any]:
    """Values of a config in the current spelling; recipes and files from mlip 0.1 have British names."""
    names = {_NAMES_OF_0_1.get(name, name): value for name, value in values.items()}
    if names.get("aggregate") in _VALUES_OF_0_1:
        names["aggregate"] = _VALUES_OF_0_1[names["aggregate"]]
    return names


def parse_config(values: dict[str, Any]) -> BaseModel:
    """Config of a model from plain values, of which `values["model"]` is the name.

    Raises:
        MlipError: the model or a key is unknown, or a value has the wrong type.
    """
    if "model" not in values:
        raise MlipError("no model is named", where="model", fix=f"model: {' | '.join(model_names())}")
    try:
        return config_class(values["model"]).model_validate(as_spelled_now(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise MlipError(f"{key}: {first['msg']}", where=f"model {values['model']}") from None


def check_elements(config: BaseModel, symbols: Iterable[str]) -> None:
    """Check that a network of this config has parameters for all elements.

    Raises:
        MlipError: names the elements without parameters.
    """
    if strangers := [symbol for symbol in symbols if atomic_numbers[symbol] not in config.known_numbers]:
        raise MlipError(
            f"the network has no parameters for {', '.join(strangers)}",
            where=f"model {config.model}",
            fix="give it more elements in the recipe's `model`, or leave these materials out",
        )


def has_batch_statistics(config: BaseModel) -> bool:
    """Whether training normalizes by the mean and variance of the batch and keeps running averages among the
    parameters."""
    return getattr(config, "has_batch_statistics", False)


def heads_of(config: BaseModel) -> tuple[str, ...]:
    """Names of the levels of theory that share a network; one for models without heads."""
    return getattr(config, "heads", ("default",))


def select_head(config: BaseModel, params: dict, head: str) -> tuple[BaseModel, dict]:
    """Config and parameters of a network reduced to one of `config.heads`; implemented by each model with heads."""
    return import_module(_entry(config.model).module).select_head(config, params, head)
