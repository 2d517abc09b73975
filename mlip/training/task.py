"""The task of a run, as the loop, the step, the schedule and the monitor see it: none of them asks what kind it is.

Another kind of target is a subclass of `Task` in a room of its own, and a line in `tasks.py`.
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
    """Data that a run learns from; indices are those of its store's frames."""

    train: Int[np.ndarray, " k"]
    validation: Int[np.ndarray, " v"]
    """May be empty."""

    @property
    def elements(self) -> list[str]:
        """Symbols that predictions can be made for, by atomic number."""

    @property
    def functional(self) -> str:
        """One name; of a mixture all of them, joined by '+'."""

    @property
    def scale(self) -> Float[np.ndarray, "*h"]:
        """The target's unit times one of the network's output; for several heads one each."""

    def describe(self) -> str:
        """A few lines for whoever starts a run."""


class ReplayingData(TrainingData, Protocol):
    """Data of a task whose recipes may have `data.replay`."""

    replayed: Int[np.ndarray, " r"]
    """Some of these come along in each epoch, as the recipe says."""


class Metadata(Protocol):
    provenance: dict[str, Any]


class TrainedModel(Protocol):
    """The model that a run leaves behind, or starts from: a network with its parameters and metadata."""

    config: BaseModel
    params: PyTree
    metadata: Metadata

    @property
    def elements(self) -> list[str]:
        """Symbols of those that it knows, by atomic number."""

    @property
    def n_parameters(self) -> int: ...

    def save(self, path: Path) -> Path:
        """Write one file, atomically."""


@dataclass(frozen=True)
class Task(ABC):
    """One recipe's. A task has no state of its own: all that training changes is in the run's."""

    recipe: Recipe

    noun: ClassVar[str]
    """For what a run leaves behind."""
    file_name: ClassVar[str]
    """Name of the exported model's file in the run folder."""
    load: ClassVar[Callable[[Path], TrainedModel]]

    @cached_property
    def network(self) -> nn.Module:
        return build_model(self.recipe.model)

    @property
    def is_random(self) -> bool:
        """Whether steps of training need random numbers, as networks with dropout do."""
        return getattr(self.recipe.model, "is_random_in_training", False)

    @property
    @abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """The terms of the loss, in the order in which they are told of."""

    @abstractmethod
    def weights(self, stage: int) -> dict[str, float]:
        """Weight of each term of the loss in stage 1 or 2."""

    def judgement(self, errors: dict[str, float]) -> float:
        """The number of a validation by which states are compared; the smallest is the best."""
        return errors["loss"]

    @abstractmethod
    def initial_params(self) -> PyTree:
        """Parameters of an untrained network, by the recipe's seed."""

    @abstractmethod
    def open_data(self, store: Store, start: TrainedModel | None, folder: RunFolder | None) -> TrainingData:
        """Data to learn from, on the scale to learn them on.

        Args:
            store: the recipe's; a replayed one follows it.
            start: the model that training starts from.
            folder: remembers what was measured, so that a resumed run has the very same; None writes nothing.

        Raises:
            MlipError: the store has nothing to learn from, or does not fit the recipe.
        """

    @abstractmethod
    def labels(self, store: Store, data: TrainingData) -> Labels:
        """Labels that the network learns of each frame of the store."""

    def graphs(self, store: Store, data: TrainingData) -> LabeledGraphs:
        """Frames of the store as the network reads them, with the labels that it learns."""
        dtype = np.dtype(self.recipe.train.precision).type
        return LabeledGraphs(store, self.recipe.model.inputs, self.labels(store, data), dtype)

    @abstractmethod
    def label_counts(self, graph: GraphsTuple) -> Counts:
        """How many labels of each term a batch holds."""

    @abstractmethod
    def terms(
        self,
        params: PyTree,
        graph: GraphsTuple,
        scale: Float[Array, "*h"],
        products: ProductPrecision = "highest",
    ) -> Terms:
        """The terms of the loss over a batch; pure, and differentiable with respect to `params`.

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
        """The terms of a step of training, and new values of the parameters that follow the batches instead of a
        gradient, such as running statistics: a part of the tree of `params`, by default none.

        Args:
            key: random numbers, for networks with dropout.
        """
        return self.terms(params, graph, scale, products), {}

    @abstractmethod
    def export(self, params: PyTree, data: TrainingData, provenance: dict[str, Any]) -> TrainedModel:
        """The model of these parameters, with all that it takes to use it."""

    def draw(self, folder: RunFolder, model: TrainedModel, store: Store, log: RunLog) -> None:  # noqa: B027
        """Pictures of what the exported model predicts; by default none."""

    def report_predictions(self, model: TrainedModel, store: Store, at_most: int) -> PredictionReport | None:
        """For the run's report, on at most so many structures of each of the splits "val" and "test"; None: nothing."""
        return None

    def starting_model(self) -> TrainedModel | None:
        """The model that `init_from` names.

        Raises:
            MlipError: its network is not the recipe's.
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
