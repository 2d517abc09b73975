"""Interface of training tasks, used by the loop, the step, the schedule and the monitor for all kinds of models.

A further kind of target is a subclass of `Task` in its own folder and a case in `task_of_recipe.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree
from jraph import GraphsTuple
from pydantic import BaseModel

from mlip.data import Store
from mlip.errors import MlipError
from mlip.graph.labeled_graphs import LabeledGraphs, Labels
from mlip.models import build_model
from mlip.runtime import ProductPrecision
from mlip.training.log import RunLog
from mlip.training.quantity import Quantity
from mlip.training.recipe import Recipe
from mlip.training.report.predictions import PredictionReport
from mlip.training.run_folder import RunFolder
from mlip.training.terms import Counts, Terms


class TrainingData(Protocol):
    """Data of a run, as indices of frames of its store."""

    train: Int[np.ndarray, " k"]
    validation: Int[np.ndarray, " v"]
    """Validation frames; may be empty."""

    @property
    def n_left_out(self) -> int:
        """Number of validation frames with an element that the training split lacks."""

    @property
    def elements(self) -> list[str]:
        """Symbols of the elements for which predictions are possible, sorted by atomic number."""

    @property
    def functional(self) -> str:
        """Name of the functional; several are joined."""

    @property
    def scale(self) -> Float[np.ndarray, "*h"]:
        """Change of the target per unit of the network's output; one value per head if there are several."""

    def describe(self) -> str:
        """Lines for the user about the data at the start of a run."""


class ReplayingData(TrainingData, Protocol):
    """Data of a task whose recipes support `data.replay`."""

    replayed: Int[np.ndarray, " r"]
    """Frames of the replayed store; each epoch uses some of them, as set in the recipe."""


class Metadata(Protocol):
    provenance: dict[str, Any]


class TrainedModel(Protocol):
    """Model that a run exports or starts from: a network with its parameters and metadata."""

    config: BaseModel
    params: PyTree
    metadata: Metadata

    @property
    def elements(self) -> list[str]:
        """Symbols of the known elements, sorted by atomic number."""

    @property
    def n_parameters(self) -> int: ...

    def save(self, path: Path) -> Path:
        """Write the model to one file, atomically."""


@dataclass(frozen=True)
class Task(ABC):
    """Training task of one recipe. It has no mutable state; everything that training changes is in the run's state."""

    recipe: Recipe

    noun: ClassVar[str]
    """Word for the model that a run exports."""
    file_name: ClassVar[str]
    """Name of the exported model's file in the run folder."""
    load: ClassVar[Callable[[Path], TrainedModel]]

    @cached_property
    def network(self) -> nn.Module:
        return build_model(self.recipe.model)

    @property
    def is_random(self) -> bool:
        """Whether training steps need random numbers, e.g. for dropout."""
        return getattr(self.recipe.model, "is_random_in_training", False)

    @property
    @abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """Terms of the loss, in display order."""

    @abstractmethod
    def weights(self, stage: int) -> dict[str, float]:
        """Weight of each term of the loss in stage 1 or 2."""

    def judgement(self, errors: dict[str, float]) -> float:
        """Number by which the states of a run are compared after a validation; lower is better."""
        return errors["loss"]

    @abstractmethod
    def initial_params(self) -> PyTree:
        """Parameters of an untrained network from the recipe's seed."""

    @abstractmethod
    def open_data(self, store: Store, start: TrainedModel | None, folder: RunFolder | None) -> TrainingData:
        """Training and validation data, and their scale.

        Args:
            store: store of the recipe, without the replayed one.
            start: model from which training starts.
            folder: run folder that keeps measured values, so that a resumed run uses exactly the same ones; None writes
                nothing.

        Raises:
            MlipError: the store has no training data, or does not match the recipe.
        """

    @abstractmethod
    def labels(self, store: Store, data: TrainingData) -> Labels:
        """Labels of each frame of the store for training the network."""

    def graphs(self, store: Store, data: TrainingData) -> LabeledGraphs:
        """Graphs of the store's frames as the network reads them, with training labels."""
        dtype = np.dtype(self.recipe.train.precision).type
        return LabeledGraphs(store, self.recipe.model.inputs, self.labels(store, data), dtype)

    @abstractmethod
    def label_counts(self, graph: GraphsTuple) -> Counts:
        """Number of known labels of each term in a batch."""

    @abstractmethod
    def terms(
        self,
        params: PyTree,
        graph: GraphsTuple,
        scale: Float[Array, "*h"],
        products: ProductPrecision = "highest",
    ) -> Terms:
        """Terms of the loss over a batch; pure, and differentiable with respect to `params`.

        Args:
            products: precision of the network's matrix products.
        """

    def training_terms(
        self,
        params: PyTree,
        graph: GraphsTuple,
        scale: Float[Array, "*h"],
        products: ProductPrecision,
        key: Array | None = None,
    ) -> tuple[Terms, PyTree]:
        """Terms for a training step, and new values of parameters that depend on the batches instead of a gradient,
        such as running averages: a subtree of `params`, by default empty.

        Args:
            key: random key, for networks with dropout.
        """
        return self.terms(params, graph, scale, products), {}

    @abstractmethod
    def export(self, params: PyTree, data: TrainingData, provenance: dict[str, Any]) -> TrainedModel:
        """Model with these parameters, complete with metadata."""

    def draw(self, folder: RunFolder, model: TrainedModel, store: Store, log: RunLog) -> None:  # noqa: B027
        """Draw pictures of the exported model's predictions; by default none."""

    def report_predictions(self, model: TrainedModel, store: Store, at_most: int) -> PredictionReport | None:
        """Content for the run's report, on at most `at_most` structures of each of the splits "val" and "test"; None
        for nothing."""
        return None

    def starting_model(self) -> TrainedModel | None:
        """Model named by `init_from`; None without it.

        Raises:
            MlipError: its network differs from the recipe's.
        """
        if self.recipe.init_from is None:
            return None
        path = self.recipe.init_from.potential
        model = type(self).load(path)
        theirs, ours = model.config.model_dump(), self.recipe.model.model_dump()
        differing = [key for key in ours if theirs.get(key) != ours[key]]
        if differing or type(model.config) is not type(self.recipe.model):
            key = differing[0] if differing else "model"
            raise MlipError(
                f"the recipe's model.{key} is {ours.get(key)!r}, that of the {self.noun} {theirs.get(key)!r}",
                where=str(path),
                fix=f"leave the recipe's model section out: it is the {self.noun}'s then",
            )
        return model
