"""Schema of a recipe, which determines a training run. Read from YAML by `recipe_file.load_recipe`."""

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
    """A second source of training frames. Validation and energy scales depend only on the first one."""

    store: Path
    share: Annotated[float, Field(gt=0, lt=1)]
    """Fraction of an epoch's frames from this store; they change every epoch until all have been used."""


class WeightsRecipe(_Section):
    """Weights of sources in an epoch. One key defines the sources; in YAML, a list alone gives a weight for each
    store."""

    store: tuple[PositiveFloat, ...] | None = None
    """Weights in the order of `data.store`."""
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
    """Energy scale; measured on the training frames if not given."""

    reference_energies: dict[str, float] | None = None
    """Reference energies by symbol, eV, e.g. of isolated atoms; those of elements absent from the training frames are
    ignored. By default a least-squares fit."""
    scale: PositiveFloat | None = None
    """Energy per unit of the model's output, eV; by default the root mean square force component."""


class StatisticsRecipe(EnergyScaleRecipe):
    of_functional: dict[str, EnergyScaleRecipe] = {}
    """Energy scales of the heads of a model that has several."""

    def of_head(self, name: str) -> EnergyScaleRecipe:
        """Energy scale given for a head."""
        return self.of_functional.get(name, self)

    @property
    def is_given(self) -> bool:
        """Whether any value is given."""
        return self != StatisticsRecipe()


class DataRecipe(_Section):
    """Source and sampling of the frames."""

    store: Path | tuple[Path, ...]
    """Stores made by `mlip data build`: a file or a folder of shards, or a list of these; relative to the working
    directory."""
    weights: WeightsRecipe | None = None
    """An epoch has as many frames as the training set. Without weights it contains each frame once. With weights each
    source has a fixed share and continues where the last epoch ended: no frame recurs before all frames of its source
    are used."""
    shuffle_block: PositiveInt = 1
    """Number of neighboring frames in the store that are read together and mixed with other such blocks. Values above
    one are for stores far larger than memory on file systems with slow random access: reading is faster, but frames of
    one relaxation path come close together in an epoch, which degrades training on small data."""
    workers: NonNegativeInt = 1
    """Number of processes that build graphs while the device works; with 0 the training process builds them."""
    replay: ReplayRecipe | None = None
    """Frames from earlier training that are mixed in so that a potential forgets less."""
    statistics: StatisticsRecipe = StatisticsRecipe()
    """Energy scale, if it is not to be measured. (The mean number of neighbors belongs to the model:
    `model.mean_neighbors`.)"""

    @property
    def stores(self) -> tuple[Path, ...]:
        """The stores as a tuple, whether the recipe names one or several."""
        return (self.store,) if isinstance(self.store, Path) else self.store

    @model_validator(mode="after")
    def _options_fit_each_other(self):
        if not self.stores:
            raise ValueError("data.store is an empty list")
        if self.weights is not None and self.replay is not None:
            raise ValueError("data.weights and data.replay exclude each other: name the second store in data.store")
        return self


class TermFactors(_Section):
    """Factors on the loss terms of a group of frames."""

    energy: NonNegativeFloat = 1.0
    forces: NonNegativeFloat = 1.0
    stress: NonNegativeFloat = 1.0


class LossRecipe(_Section):
    """Loss: sum over E, F, S (and curvature) of weight * mean penalty; each mean runs over the known labels."""

    kind: Literal["huber", "mse", "mae"] = "huber"
    huber_delta: PositiveFloat = 0.01
    """Residual at which Huber's penalty turns from quadratic to linear, in the unit of the term."""
    energy: NonNegativeFloat = 1.0
    """Weight of the energy per atom, in eV/atom."""
    forces: NonNegativeFloat = 1.0
    """Weight of the force components, in eV/A."""
    forces_as: Literal["components", "vectors"] = "components"
    """Force errors to penalize: each component, or the length of each atom's error vector, which does not depend on the
    axes."""
    stress: NonNegativeFloat = 0.1
    """Weight of the stress tensor's nine components, in `stress_unit`."""
    curvature: NonNegativeFloat = 0.0
    """Weight of the Hessian's products with directions, in eV/A^2, for frames that have them (`mlip data relabel
    --hessian`, `mlip data curvature`). Takes one more derivative per step."""
    stress_unit: Literal["GPa", "eV/A^3"] = "GPa"
    """Unit of stress errors. The M3GNet weights 1, 1, 0.1 are for GPa; MACE's are for eV/A^3, with 160 times smaller
    numbers."""
    of_functional: dict[str, TermFactors] = {}
    """Factors on these weights for frames of a functional, e.g. of a small but better source."""

    @model_validator(mode="after")
    def _something_is_fitted(self):
        if self.energy == self.forces == self.stress == self.curvature == 0:
            raise ValueError("energy, forces, stress and curvature all have weight 0: nothing to fit")
        return self


PropertyLoss = Literal["mae", "mse", "robust_mae", "robust_mse"]


class PropertyRecipe(_Section):
    """Property that a model learns. Recipes of potentials have no such section, and those of property models no
    `loss`."""

    name: str
    """Name of a scalar of the store's materials, or of one derived from them (`mlip.data.properties`): band_gap,
    e_form, e_above_hull, energy_per_atom, magnetization_per_atom, volume_per_atom, dos_ef, ..."""
    materials: PositiveInt | None = None
    """Number of training materials to use, selected by their ids so that smaller sets are subsets of larger ones."""
    largest: float | None = None
    """Largest value of the property; materials above it are left out (8 eV/atom in CGAT's data)."""
    mean: FiniteFloat | None = None
    """Mean for normalizing the property, in its unit, together with `std`; by default both come from the training
    set."""
    std: Annotated[FiniteFloat, Field(gt=0)] | None = None
    loss: PropertyLoss = "mae"
    """Loss of the normalized property; the robust ones also train an uncertainty."""
    element_vectors: Path | None = None
    """JSON or CSV file of element vectors, such as matscholar's or mat2vec's, for a model with fixed
    `element_vectors`."""

    @model_validator(mode="after")
    def _a_scale_is_two_numbers(self):
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together: give both or neither")
        return self


class ScheduleRecipe(_Section):
    """Learning rate schedule, as a fraction of the peak. In YAML the kind alone suffices: `schedule: cosine`."""

    kind: Literal["constant", "cosine", "exponential", "cyclical", "one-cycle", "plateau"] = "cosine"
    warmup_steps: NonNegativeInt = 0
    """Number of steps of a linear warm-up from `warmup_from`, before any kind of schedule."""
    warmup_from: Fraction = 0.0
    """Fraction of the peak at the start of the warm-up."""
    final_fraction: Fraction = 0.01
    """Fraction of the peak at the end (cosine, exponential, one-cycle), at the bottom of a cycle, or the minimum on a
    plateau."""
    period: PositiveInt | None = None
    """Number of epochs in a cycle, a triangle that begins and ends at its bottom."""
    moves: Literal["each epoch", "each step"] = "each epoch"
    """When a cyclical rate changes: each epoch as in CGAT, or each step as in CrabNet."""
    start_fraction: Fraction = 0.04
    """Fraction of the peak at the start of a one-cycle schedule."""
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Fraction of the steps in which one cycle rises to its peak."""
    momentum: tuple[Fraction, Fraction] | None = None
    """Adam's first beta at the lowest and at the highest learning rate of one cycle, e.g. [0.95, 0.85]."""
    patience: PositiveInt = 10
    """Number of validations without improvement after which the plateau schedule multiplies the rate by `factor`."""
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
    """Look-ahead (M. R. Zhang et al., NeurIPS 2019); in YAML, `lookahead: {}` uses the authors' values."""

    period: PositiveInt = 6
    """Number of steps between two synchronizations."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Fraction of the way that the slow parameters move."""


class TrainRecipe(_Section):
    """Optimization of the parameters."""

    epochs: PositiveInt
    """Number of epochs, including stage two."""
    batch_size: PositiveInt
    """Structures per step, over all devices."""
    accumulate: PositiveInt = 1
    """Number of parts that a step processes one after another: needs less memory and gives the same gradient."""
    learning_rate: PositiveFloat
    """Learning rate at the peak of the schedule."""
    schedule: ScheduleRecipe = ScheduleRecipe()
    optimizer: Literal["adam", "adamw", "amsgrad", "lamb", "muon"] = "adam"
    """Optimizer. `lamb` is CrabNet's, with steps scaled to the norm of the parameters (`mlip.training.lamb`). `muon` is
    optax's: orthogonalized momentum for matrices, Adam with Nesterov momentum for all others."""
    lookahead: LookaheadRecipe | None = None
    """Slow parameters that follow the optimizer's steps and to which the fast ones are reset periodically."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay: decoupled in adamw and in muon, where only matrices decay; otherwise added to the gradient after
    clipping, as in PyTorch."""
    decayed: tuple[str, ...] = ("*",)
    """Parameters that decay, as shell patterns of their names, which `mlip train --dry-run` lists."""
    frozen: tuple[str, ...] = ()
    """Parameters that are not trained, as shell patterns of their names."""
    clip_norm: PositiveFloat | None = 10.0
    """Largest global norm of a gradient; larger gradients are scaled down to it."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = 0.99
    """Decay of the moving average of the parameters that is validated and exported; null uses the parameters
    themselves."""
    average: Literal["exponential", "good"] = "exponential"
    """Kind of average: exponential, or (good) CrabNet's average of the parameters that validate nearly as well as the
    best so far (`mlip.training.good_average`), which are also validated by themselves."""
    early_stopping: PositiveInt | None = None
    """Number of validations of the last stage without improvement after which the run ends."""
    seed: int = 0
    precision: Literal["float32", "float64"] = "float32"
    matmul_precision: ProductPrecision = "highest"
    """Precision of the matrix products in training steps: tf32 and bf16 are faster and less accurate on GPUs with units
    for them, and have no effect on a CPU. Basis functions of bonds, validation and the exported potential always use
    full precision."""
    validate_every: PositiveInt = 1
    """Number of epochs between validations."""
    checkpoint_every: PositiveInt | None = None
    """Number of steps between checkpoints, in addition to those at the end of each epoch."""
    keep: PositiveInt = 2
    """Number of the latest checkpoints to keep; the best one is always kept."""
    max_skipped: Fraction = 0.05
    """Fraction of an epoch's steps, rounded up, that may be skipped as not finite; one more stops the run."""

    @property
    def product_precision(self) -> str:
        """Precision of the matrix products in training steps: float32, float64, tf32 or bf16."""
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
        default = type(self).model_fields["ema_decay"].default  # the recipe in a run folder spells it out
        if self.average == "good" and self.ema_decay not in (None, default):
            raise ValueError("ema_decay is for an exponential average, and average is good")
        return self

    @model_validator(mode="after")
    def _parts_are_equal(self):
        if self.batch_size % self.accumulate:
            raise ValueError(f"a batch of {self.batch_size} cannot be cut into {self.accumulate} equal parts")
        return self


class StageTwoRecipe(_Section):
    """Changes late in a run: MACE's stage two ("SWA"). Omitted weights are unchanged."""

    after_epoch: PositiveInt
    """Last epoch of stage one."""
    energy: NonNegativeFloat | None = None
    forces: NonNegativeFloat | None = None
    stress: NonNegativeFloat | None = None
    curvature: NonNegativeFloat | None = None
    """Only allowed if `loss.curvature` is not 0."""
    learning_rate: PositiveFloat | None = None
    """Learning rate, approached linearly within `anneal_epochs` from that at the end of stage one; null continues the
    schedule."""
    anneal_epochs: NonNegativeInt = 1
    average: bool = False
    """Stochastic weight averaging in the strict sense: the mean of the parameters at the ends of stage two's epochs is
    validated and exported instead of the exponential average."""


class InitRecipe(_Section):
    """Potential or property model from which training starts. In YAML its path alone suffices: `init_from:
    mp.safetensors`."""

    potential: Path
    """File written by `mlip train` or `mlip convert`, or a name that `mlip models` lists."""
    reference_energies: Literal["refit", "keep"] = "refit"
    """Reference energies to start from. refit: the potential's own, plus the least-squares fit of its errors on the
    training set to compositions; keep: the potential's own."""
    scale: Literal["refit", "keep"] | None = None
    """Unit of the model's output, and the mean of a property: keep the model's own, or refit them to the training set.
    By default they are kept, unless the model predicts another property."""

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
    """Config of the model; in YAML, `model.model` is its name in the registry. May be omitted with `init_from`."""
    init_from: InitRecipe | None = None
    loss: LossRecipe = LossRecipe()
    property: PropertyRecipe | None = None
    train: TrainRecipe
    stage_two: StageTwoRecipe | None = None
    out: Path
    """Run folder; relative to the working directory."""
    wandb_project: str | None = None
    """Project of Weights & Biases that also receives the records (extra `wandb`)."""

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
        """Config without the fields that are measured on the data, so that a run of the written recipe measures them
        again."""
        return model.model_dump(mode="json", exclude=left_to_data(model))

    def fingerprint(self) -> str:
        """Short hash of everything that affects the result (not the output path)."""
        content = json.dumps(self.model_dump(mode="json", exclude={"out", "wandb_project"}), sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def save(self, path: Path) -> None:
        """Write the recipe as YAML, from which `load_recipe` reads an equal recipe."""
        Path(path).write_text(OmegaConf.to_yaml(OmegaConf.create(self.model_dump(mode="json"))))


def left_to_data(model: BaseModel) -> set[str]:
    """Fields of a model's config that are not set and that training therefore measures."""
    return set(getattr(model, "measured_on_data", ())) - model.model_fields_set
