"""A recipe: everything that decides a training run, read from YAML, checked before anything is computed.

An unknown key, a value of the wrong type or a path that is not there is one line that names the key, the
nearest known one and the file. The resolved recipe is written into the run folder and can be run again.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_serializer,
    model_validator,
)
from yaml import YAMLError

from mlip.errors import MlipError
from mlip.models import config_class, model_names

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataRecipe(_Section):
    """Where the frames come from."""

    store: Path
    """What `mlip data build` made: a file or a folder of shards; relative to the working directory."""
    workers: NonNegativeInt = 1
    """Processes that build graphs while the device works; 0 = in the training process."""


class LossRecipe(_Section):
    """sum over E, F, S of weight * mean penalty; each mean runs over the labels that are known."""

    kind: Literal["huber", "mse", "mae"] = "huber"
    huber_delta: PositiveFloat = 0.01
    """Where Huber's penalty turns from quadratic to linear, in the unit of the term."""
    energy: NonNegativeFloat = 1.0
    """Weight of the energy per atom, eV/atom."""
    forces: NonNegativeFloat = 1.0
    """Weight of the force components, eV/A."""
    stress: NonNegativeFloat = 0.1
    """Weight of the six Voigt components, in `stress_unit`."""
    stress_unit: Literal["GPa", "eV/A^3"] = "GPa"
    """The M3GNet weights 1, 1, 0.1 are for GPa; MACE's are for eV/A^3, 160 times smaller numbers."""

    @model_validator(mode="after")
    def _something_is_fitted(self):
        if self.energy == self.forces == self.stress == 0:
            raise ValueError("energy, forces and stress all have weight 0: nothing to fit")
        return self


class TrainRecipe(_Section):
    """How the parameters move."""

    epochs: PositiveInt
    batch_size: PositiveInt
    """Structures a step, all devices together."""
    learning_rate: PositiveFloat
    """At the peak of the schedule."""
    schedule: Literal["constant", "cosine", "exponential"] = "cosine"
    final_fraction: Fraction = 0.01
    """The learning rate of the last step over that of the peak (cosine, exponential)."""
    warmup_steps: NonNegativeInt = 0
    """Linear rise from 0."""
    optimizer: Literal["adam", "adamw", "amsgrad"] = "adam"
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled, as in AdamW."""
    clip_norm: PositiveFloat | None = 10.0
    """Largest global norm of a gradient; longer ones are shortened to it."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = 0.99
    """Of the average of the parameters that is validated and exported; null = the parameters themselves."""
    seed: int = 0
    precision: Literal["float32", "float64"] = "float32"
    validate_every: PositiveInt = 1
    """Epochs."""
    checkpoint_every: PositiveInt | None = None
    """Steps, besides the checkpoint at the end of each epoch."""
    keep: PositiveInt = 2
    """How many of the last checkpoints stay; the best one stays anyway."""
    max_skipped: Fraction = 0.05
    """Share of an epoch's steps, rounded up, that may be skipped as not finite; one more stops the run."""

    @model_validator(mode="after")
    def _options_fit_each_other(self):
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError("weight_decay needs optimizer: adamw")
        if self.schedule == "exponential" and self.final_fraction == 0:
            raise ValueError("an exponential schedule needs final_fraction > 0")
        return self


class Recipe(_Section):
    """One training run."""

    data: DataRecipe
    model: BaseModel
    """The model's own config, an instance; in YAML `model.model` is its name in the registry."""
    loss: LossRecipe = LossRecipe()
    train: TrainRecipe
    out: Path
    """The run folder; relative to the working directory."""

    @field_serializer("model")
    def _as_written(self, model: BaseModel) -> dict[str, Any]:
        """Without what is left to the data, which a run of the written recipe measures again."""
        return model.model_dump(mode="json", exclude=left_to_data(model))

    def fingerprint(self) -> str:
        """A short hash of all that shapes the result (not of where it is written)."""
        content = json.dumps(self.model_dump(mode="json", exclude={"out"}), sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def save(self, path: Path) -> None:
        """Write as YAML that `load_recipe` reads back to an equal recipe."""
        Path(path).write_text(OmegaConf.to_yaml(OmegaConf.create(self.model_dump(mode="json"))))


def left_to_data(model: BaseModel) -> set[str]:
    """Fields of a model's config that training measures, and nobody has set."""
    return set(getattr(model, "measured_on_data", ())) - model.model_fields_set


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe in the YAML file `path`; `overrides` are `key.key=value`, applied last.

    Raises:
        MlipError: for anything in it that cannot be run as written.
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
    recipe = _validate(values, where=str(path), given=OmegaConf.to_container(given))
    if not recipe.data.store.exists():
        raise MlipError(
            f"data.store: no such file or folder: {recipe.data.store}",
            where=str(path),
            fix="make it with `mlip data build`, or set data.store=PATH",
        )
    return recipe


def _parse_overrides(overrides: Sequence[str]):
    for item in overrides:
        if "=" not in item:
            raise MlipError(f"cannot read {item!r}", where="command line", fix="write key.key=value")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (YAMLError, OmegaConfBaseException) as error:
        raise MlipError(_one_line(error), where="command line") from None


def _validate(values: dict, *, where: str, given: Mapping) -> Recipe:
    model = values.get("model")
    if isinstance(model, dict):  # which keys this section has depends on the model that it names
        if model.get("model") not in model_names():
            raise MlipError(
                f"model.model: no model is called {model.get('model')!r}",
                where=where,
                fix=f"one of: {', '.join(model_names())}",
            )
        schema = config_class(model["model"])
        values = values | {"model": _checked(schema, model, ("model",), where=where, given=given)}
    return _checked(Recipe, values, (), where=where, given=given)


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
        schema = schema.model_fields[name].annotation
    return schema


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
