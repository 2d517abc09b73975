"""A recipe: everything that decides a training run. Read from YAML by `recipe_file.load_recipe`."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_serializer,
    field_validator,
    model_validator,
)

from mlip.models import has_batch_statistics, target_of
from mlip.pretrained import declared_name
from mlip.runtime import ProductPrecision

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReplayRecipe(_Section):
    """A second source of training frames; the first one alone decides on validation and energy scales."""

    store: Path
    share: Annotated[float, Field(gt=0, lt=1)]
    """Share of an epoch's frames that come from it: others in each epoch, until all have been there."""


class WeightsRecipe(_Section):
    """Shares of an epoch. One of the keys says what a source is; in YAML a list alone is a weight for each store."""

    store: tuple[PositiveFloat, ...] | None = None
    """In the order of `data.store`."""
    functional: dict[str, PositiveFloat] | None = None
    dimensionality: dict[int, PositiveFloat] | None = None
    """Weights of crystals (3), layers (2) and chains (1)."""

    @model_validator(mode="before")
    @classmethod
    def _list_alone(cls, values: Any) -> Any:
        return {"store": values} if isinstance(values, list | tuple) else values

    @model_validator(mode="after")
    def _one_key_is_set(self):
        if sum(weights is not None for _, weights in self) != 1:
            raise ValueError("weights are for one of store, functional, dimensionality")
        return self

    @property
    def chosen(self) -> tuple[str, tuple[float, ...] | dict[Any, float]]:
        """The key that is set, and its value."""
        return next((kind, weights) for kind, weights in self if weights is not None)


class EnergyScaleRecipe(_Section):
    """The energy scale, measured on the training frames where it is not given."""

    reference_energies: dict[str, float] | None = None
    """Symbol -> eV, e.g. of isolated atoms; those of elements that the training frames lack are not used. By default
    the least-squares fit."""
    scale: PositiveFloat | None = None
    """eV a unit of the model's output; by default the root mean square force component."""


class StatisticsRecipe(EnergyScaleRecipe):
    of_functional: dict[str, EnergyScaleRecipe] = {}
    """For the heads of a model that has several."""

    def of_head(self, name: str) -> EnergyScaleRecipe:
        """Energy scale that is given for a head."""
        return self.of_functional.get(name, self)

    @property
    def is_given(self) -> bool:
        """Whether there is anything."""
        return self != StatisticsRecipe()


class DataRecipe(_Section):
    """Where the frames come from."""

    store: Path | tuple[Path, ...]
    """Stores that `mlip data build` made: a file or a folder of shards, or a list of such; relative to the working
    directory."""
    weights: WeightsRecipe | None = None
    """An epoch has as many training frames as there are. Without weights it is each of them once; with weights each
    source has its share, and goes on where the last epoch ended: no frame comes again before all of its source have."""
    shuffle_block: PositiveInt = 1
    """Frames, neighbors in the store, that are read together and mixed with other such blocks. More than one are for
    stores far larger than memory and file systems that are slow at reading here and there: they are read faster, but
    frames of one path come close together in an epoch, which small data are learnt worse from."""
    workers: NonNegativeInt = 1
    """Processes that build graphs while the device works; 0 = in the training process."""
    replay: ReplayRecipe | None = None
    """Frames that a potential has learnt from before, mixed in so that it forgets less."""
    statistics: StatisticsRecipe = StatisticsRecipe()
    """The energy scale, where it is not to be measured. (Mean neighbors are the model's: `model.mean_neighbors`.)"""

    @property
    def stores(self) -> tuple[Path, ...]:
        """Whether the recipe names one or several."""
        return (self.store,) if isinstance(self.store, Path) else self.store

    @model_validator(mode="after")
    def _options_fit_each_other(self):
        if not self.stores:
            raise ValueError("data.store is an empty list")
        if self.weights is not None and self.replay is not None:
            raise ValueError("data.weights and data.replay exclude each other: name the second store in data.store")
        return self


class TermFactors(_Section):
    """Factors on the loss terms of some frames."""

    energy: NonNegativeFloat = 1.0
    forces: NonNegativeFloat = 1.0
    stress: NonNegativeFloat = 1.0


class LossRecipe(_Section):
    """sum over E, F, S of weight * mean penalty; each mean runs over the labels that are known."""

    kind: Literal["huber", "mse", "mae"] = "huber"
    huber_delta: PositiveFloat = 0.01
    """Where Huber's penalty turns from quadratic to linear, in the unit of the term."""
    energy: NonNegativeFloat = 1.0
    """Weight of the energy per atom, eV/atom."""
    forces: NonNegativeFloat = 1.0
    """Weight of the force components, eV/A."""
    forces_as: Literal["components", "vectors"] = "components"
    """Errors that the penalty is of: each component's, or the length of each atom's, which does not depend on the
    axes."""
    stress: NonNegativeFloat = 0.1
    """Weight of the tensor's nine components, in `stress_unit`."""
    curvature: NonNegativeFloat = 0.0
    """Weight of the Hessian's products with directions, eV/A^2, of frames that have them (`mlip data relabel
    --hessian`, `mlip data curvature`). One more derivative a step."""
    stress_unit: Literal["GPa", "eV/A^3"] = "GPa"
    """The M3GNet weights 1, 1, 0.1 are for GPa; MACE's are for eV/A^3, 160 times smaller numbers."""
    of_functional: dict[str, TermFactors] = {}
    """Factors on the weights above for frames of a functional, e.g. of a small but better source."""

    @model_validator(mode="after")
    def _something_is_fitted(self):
        if self.energy == self.forces == self.stress == self.curvature == 0:
            raise ValueError("energy, forces, stress and curvature all have weight 0: nothing to fit")
        return self


PropertyLoss = Literal["mae", "mse", "robust_mae", "robust_mse"]


class PropertyRecipe(_Section):
    """The property that a model learns. A potential has no such section, and a property model no `loss`."""

    name: str
    """A scalar of the store's materials, or one that follows from them (`mlip.data.properties`): band_gap, e_form,
    e_above_hull, energy_per_atom, magnetization_per_atom, volume_per_atom, dos_ef, ..."""
    materials: PositiveInt | None = None
    """Learn from so many materials of the training split, in an order that their ids alone decide: fewer are among
    more."""
    largest: float | None = None
    """Materials with more are left out: 8 eV/atom in CGAT's data."""
    mean: FiniteFloat | None = None
    """With `std`, in the property's unit: the scale on which it is learned; by default that of the training set."""
    std: Annotated[FiniteFloat, Field(gt=0)] | None = None
    loss: PropertyLoss = "mae"
    """Loss of the normalized property; the robust ones train an uncertainty as well."""
    element_vectors: Path | None = None
    """JSON or CSV of the elements' vectors, such as matscholar's or mat2vec's, for a model whose `element_vectors` are
    fixed."""

    @model_validator(mode="after")
    def _a_scale_is_two_numbers(self):
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together: give both or neither")
        return self


class ScheduleRecipe(_Section):
    """How the learning rate moves, as a fraction of its peak. In YAML the kind alone will do: `schedule: cosine`."""

    kind: Literal["constant", "cosine", "exponential", "cyclical", "one-cycle", "plateau"] = "cosine"
    warmup_steps: NonNegativeInt = 0
    """Linear rise from `warmup_from`, whatever follows."""
    warmup_from: Fraction = 0.0
    """Where the rise begins."""
    final_fraction: Fraction = 0.01
    """At the end (cosine, exponential, one-cycle), at the bottom of a cycle, or the least that a plateau leads to."""
    period: PositiveInt | None = None
    """Epochs of a cycle: a triangle that begins and ends at its bottom."""
    moves: Literal["each epoch", "each step"] = "each epoch"
    """When a cyclical rate moves: CGAT's at each epoch, CrabNet's at each step."""
    start_fraction: Fraction = 0.04
    """At the begin of one cycle."""
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the steps in which one cycle rises to its peak."""
    momentum: tuple[Fraction, Fraction] | None = None
    """Adam's first beta where one cycle is lowest, and where it is highest, such as [0.95, 0.85]."""
    patience: PositiveInt = 10
    """Validations without a better loss after which a plateau multiplies the rate by `factor`."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, values: Any) -> Any:
        return {"kind": values} if isinstance(values, str) else values

    @model_validator(mode="after")
    def _options_fit_each_other(self):
        if self.kind == "exponential" and self.final_fraction == 0:
            raise ValueError("an exponential schedule needs final_fraction > 0")
        if (self.kind == "cyclical") != (self.period is not None):
            raise ValueError("period is for a cyclical schedule, which needs one")
        if self.momentum is not None and self.kind != "one-cycle":
            raise ValueError("momentum is for one-cycle: other schedules leave it alone")
        if self.moves != "each epoch" and self.kind != "cyclical":
            raise ValueError("moves is for a cyclical schedule: the others move at each step")
        return self


class LookaheadRecipe(_Section):
    """Look-ahead (M. R. Zhang et al., NeurIPS 2019); in YAML `lookahead: {}` has the authors' values."""

    period: PositiveInt = 6
    """Steps between two synchronizations."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the way that the slow parameters go."""


class TrainRecipe(_Section):
    """How the parameters move."""

    epochs: PositiveInt
    """Stage two included."""
    batch_size: PositiveInt
    """Structures a step, all devices together."""
    accumulate: PositiveInt = 1
    """Parts that a step goes through one after another: less memory, the very same gradient."""
    learning_rate: PositiveFloat
    """At the peak of the schedule."""
    schedule: ScheduleRecipe = ScheduleRecipe()
    optimizer: Literal["adam", "adamw", "amsgrad", "lamb", "muon"] = "adam"
    """`lamb` is CrabNet's: steps as long as the parameters (`mlip.training.lamb`). `muon` is optax's: momentum made
    orthogonal for matrices, Adam with Nesterov's momentum for all others."""
    lookahead: LookaheadRecipe | None = None
    """Slow parameters that follow the optimizer's steps, and to which these return."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay: decoupled in adamw, and in muon, where matrices alone decay; added to the gradient after clipping
    in the others, as PyTorch has it."""
    decayed: tuple[str, ...] = ("*",)
    """Parameters that decay: shell patterns of their names, which `mlip train --dry-run` lists."""
    frozen: tuple[str, ...] = ()
    """Parameters that stay as they are: shell patterns of their names."""
    clip_norm: PositiveFloat | None = 10.0
    """Largest global norm of a gradient; longer ones are shortened to it."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = 0.99
    """Decay of the parameters' average that is validated and exported; null = the parameters themselves."""
    average: Literal["exponential", "good"] = "exponential"
    """The average: the exponential one, or (good) CrabNet's, of the parameters that validate nearly as well as the best
    so far (`mlip.training.good_average`); they are validated by themselves as well."""
    early_stopping: PositiveInt | None = None
    """Validations of the last stage without a better loss after which the run ends."""
    seed: int = 0
    precision: Literal["float32", "float64"] = "float32"
    matmul_precision: ProductPrecision = "highest"
    """Precision of the matrix products of training steps: tf32 and bf16 are faster and rougher where a GPU has units
    for them, without effect on a CPU. Bonds' basis functions, validation and the potential in use are always in
    full."""
    validate_every: PositiveInt = 1
    """Epochs."""
    checkpoint_every: PositiveInt | None = None
    """Steps, besides the checkpoint at the end of each epoch."""
    keep: PositiveInt = 2
    """How many of the last checkpoints stay; the best one stays anyway."""
    max_skipped: Fraction = 0.05
    """Share of an epoch's steps, rounded up, that may be skipped as not finite; one more stops the run."""

    @property
    def product_precision(self) -> str:
        """Precision of the matrix products of training steps, in a word: float32, float64, tf32 or bf16."""
        return self.precision if self.matmul_precision == "highest" else self.matmul_precision

    @model_validator(mode="after")
    def _optimizer_has_what_the_schedule_moves(self):
        if self.schedule.momentum is not None and self.optimizer not in ("adam", "adamw"):
            raise ValueError(f"schedule.momentum is for adam and adamw, and the optimizer is {self.optimizer}")
        return self

    @model_validator(mode="after")
    def _products_are_of_float32(self):
        if self.precision == "float64" and self.matmul_precision != "highest":
            raise ValueError(f"matmul_precision {self.matmul_precision} is for precision float32")
        return self

    @model_validator(mode="after")
    def _averages_exclude_each_other(self):
        default = type(self).model_fields["ema_decay"].default  # a run folder's recipe spells it out
        if self.average == "good" and self.ema_decay not in (None, default):
            raise ValueError("ema_decay is for an exponential average, and average is good")
        return self

    @model_validator(mode="after")
    def _parts_are_equal(self):
        if self.batch_size % self.accumulate:
            raise ValueError(f"a batch of {self.batch_size} cannot be cut into {self.accumulate} equal parts")
        return self


class StageTwoRecipe(_Section):
    """Changes late in a run: MACE's stage two ("SWA"). Weights that are left out stay as they were."""

    after_epoch: PositiveInt
    """The last epoch of stage one."""
    energy: NonNegativeFloat | None = None
    forces: NonNegativeFloat | None = None
    stress: NonNegativeFloat | None = None
    curvature: NonNegativeFloat | None = None
    """Only where `loss.curvature` is not 0."""
    learning_rate: PositiveFloat | None = None
    """Reached linearly within `anneal_epochs` from that of the end of stage one; null = the schedule goes on."""
    anneal_epochs: NonNegativeInt = 1
    average: bool = False
    """Stochastic weight averaging proper: the plain mean of the parameters at the ends of stage two's epochs is
    validated and exported, in place of the exponential average."""


class InitRecipe(_Section):
    """The potential or property model that training starts from. In YAML its path alone will do:
    `init_from: mp.safetensors`."""

    potential: Path
    """Any file that `mlip train` or `mlip convert` wrote, or a name that `mlip models` lists."""
    reference_energies: Literal["refit", "keep"] = "refit"
    """refit: the potential's own, plus the least-squares fit of its errors on the training set to compositions;
    keep: the potential's own."""
    scale: Literal["refit", "keep"] | None = None
    """The unit of the model's output (of a property also its mean): the model's own, or (refit) that of the training
    set. By default the own one is kept, unless it is another property's."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, values: Any) -> Any:
        return {"potential": values} if isinstance(values, str | Path) else values

    @field_validator("potential")
    @classmethod
    def _by_its_own_name(cls, potential: Path) -> Path:
        return Path(declared_name(str(potential)))


class Recipe(_Section):
    """One training run."""

    data: DataRecipe
    model: BaseModel
    """The model's own config, an instance; in YAML `model.model` is its name in the registry. With `init_from` it may
    be left out."""
    init_from: InitRecipe | None = None
    loss: LossRecipe = LossRecipe()
    property: PropertyRecipe | None = None
    train: TrainRecipe
    stage_two: StageTwoRecipe | None = None
    out: Path
    """The run folder; relative to the working directory."""
    wandb_project: str | None = None
    """Records go to this project of Weights & Biases as well (extra `wandb`)."""

    @model_validator(mode="after")
    def _sections_fit_each_other(self):
        stage_two, epochs = self.stage_two, self.train.epochs
        if stage_two is not None and stage_two.average and self.train.average == "good":
            raise ValueError("stage_two.average and train.average: good exclude each other")
        if stage_two is not None and stage_two.curvature is not None and self.loss.curvature == 0:
            raise ValueError("stage_two.curvature is for runs that fit the curvature from the start: loss.curvature")
        if stage_two is not None and stage_two.after_epoch >= epochs:
            raise ValueError(f"stage_two.after_epoch is {stage_two.after_epoch}, of train.epochs {epochs}")
        if self.data.replay is not None and self.init_from is None:
            raise ValueError("data.replay is for a potential that training starts from: set init_from")
        if self.data.statistics.is_given and self.init_from is not None:
            raise ValueError("data.statistics and init_from exclude each other: the potential has an energy scale")
        is_scaled = self.init_from is None and self.data.statistics.scale != 1
        if is_scaled and getattr(self.model, "is_in_ev", False):
            raise ValueError("model.zbl is in eV: set data.statistics.scale to 1")
        return self

    @model_validator(mode="after")
    def _one_thing_is_learned(self):
        is_property_model = target_of(self.model) == "property"
        if is_property_model != (self.property is not None):
            needs = "needs the section property" if is_property_model else "is a potential: it learns no property"
            raise ValueError(f"{self.model.model} {needs}")
        if self.property is None:
            return self
        if self.loss != LossRecipe() or self.data.replay is not None or self.data.statistics.is_given:
            raise ValueError("loss, data.replay and data.statistics are for potentials; a property has property.loss")
        if self.train.accumulate > 1 and has_batch_statistics(self.model):
            raise ValueError(
                f"train.accumulate cuts a batch into parts, and {self.model.model} normalizes over all of it: "
                "accumulate=1, or model.norm=layer"
            )
        if self.property.loss.startswith("robust") and not getattr(self.model, "predicts_uncertainty", True):
            raise ValueError(f"property.loss={self.property.loss} needs model.predicts_uncertainty=true")
        stage_two = self.stage_two
        if stage_two is not None and (stage_two.energy, stage_two.forces, stage_two.stress) != (None, None, None):
            raise ValueError("stage_two has weights of a potential's loss, and a property is learned")
        if self.property.mean is not None and self.init_from is not None and self.init_from.scale is not None:
            raise ValueError("property.mean and property.std exclude init_from.scale: they are the scale")
        takes_vectors = getattr(self.model, "element_vectors", "learned") == "fixed"
        has_file = self.property.element_vectors is not None
        if (has_file and not takes_vectors) or (takes_vectors and not has_file and self.init_from is None):
            raise ValueError("property.element_vectors, a file, and model.element_vectors: fixed go together")
        return self

    @field_serializer("model")
    def _as_written(self, model: BaseModel) -> dict[str, Any]:
        """Without what is left to the data, which a run of the written recipe measures again."""
        return model.model_dump(mode="json", exclude=left_to_data(model))

    def fingerprint(self) -> str:
        """A short hash of all that shapes the result (not of where it is written)."""
        content = json.dumps(self.model_dump(mode="json", exclude={"out", "wandb_project"}), sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def save(self, path: Path) -> None:
        """Write as YAML that `load_recipe` reads back to an equal recipe."""
        Path(path).write_text(OmegaConf.to_yaml(OmegaConf.create(self.model_dump(mode="json"))))


def left_to_data(model: BaseModel) -> set[str]:
    """Fields of a model's config that training measures, and nobody has set."""
    return set(getattr(model, "measured_on_data", ())) - model.model_fields_set
