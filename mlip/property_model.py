"""A property model: a network with parameters and metadata that predicts a property of crystals; reads and writes its
file."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from flax import linen as nn
from jaxtyping import Array, Float, Int
from jraph import GraphsTuple
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mlip import __version__
from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.graph.bond_pair_prototype import BondPairPrototype
from mlip.graph.prototype import Prototype, prototype_batches
from mlip.hardware import hardware
from mlip.model_file import read_model_file
from mlip.network import TrainedNetwork
from mlip.programs import Jitted
from mlip.runtime import ProductPrecision, precision_scope, products_in, set_up_jax


class PropertyMetadata(BaseModel):
    """Metadata of a property model, stored as JSON in the header of its file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    property: str
    """Predicted property, by its name in a store: e_above_hull, e_form, volume, ..."""
    mean: float = 0.0
    """Mean of the property over the training data, in its unit; the network's output 0 stands for it."""
    std: float = 1.0
    """Change of the property per unit of the network's output, in the property's unit."""
    elements: list[str]
    """Symbols of the elements that occur in the training data, or have an element vector."""
    functional: str = "unknown"
    knows_uncertainty: bool = False
    """Whether the loss trained the second output, the logarithm of the uncertainty."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    precision: str = "unknown"
    """Precision of the matrix products in training: float32, float64, tf32 or bf16."""
    mlip_version: str = __version__

    @field_validator("elements")
    @classmethod
    def _are_elements(cls, elements: list[str]) -> list[str]:
        if strangers := sorted(set(elements) - set(chemical_symbols[1:])):
            raise ValueError(f"no elements: {', '.join(strangers)}")
        return elements


@Jitted
def property_outputs(
    model: nn.Module, params: Any, batch: Any, products: ProductPrecision = "highest"
) -> Float[Array, "c 2"]:
    """The network's two outputs for each crystal; compiled once per model and shape for the whole process, which keeps
    a limited number of programs."""
    with products_in(products):
        return model.apply({"params": params}, batch)


class PropertyPrediction(NamedTuple):
    """Prediction of a property and its uncertainty, in the property's unit."""

    value: float
    uncertainty: float
    """Standard deviation of the error as predicted by the network; NaN if the network was not trained to predict it."""


@dataclass(frozen=True, eq=False, repr=False)
class PropertyModel(TrainedNetwork):
    """A network that predicts a property of a crystal, with its parameters and metadata. Immutable."""

    metadata: PropertyMetadata

    noun = "model"
    metadata_class = PropertyMetadata
    evaluation = property_outputs

    def _facts(self) -> dict[str, str]:
        return {"predicts": self.metadata.property}

    def _scales(self) -> dict[str, Any]:
        return self.metadata.model_dump(include={"property", "mean", "std"})

    def _batch_edges(self) -> int:
        return hardware().property_edges

    @property
    def elements(self) -> list[str]:
        """Symbols of the known elements, sorted by atomic number."""
        return sorted(self.metadata.elements, key=atomic_numbers.__getitem__)

    def predict(
        self, structures: Atoms | Frame | Iterable[Any], dtype: str = "float32", batch_edges: int | None = None
    ) -> Float[np.ndarray, " k"]:
        """Property of each structure, in its unit.

        Args:
            structures: one or an iterable of ASE Atoms, pymatgen Structures or Frames, with any periodicity, relaxed or
                not; not modified. Networks that read compositions also accept formulas, such as "Fe2O3".
            batch_edges: approximate number of edges evaluated at once.

        Raises:
            MlipError: an element is unknown, atoms coincide, there are too few neighbors, a formula cannot be read, or
                the network needs structures and got a formula; names the structure by its index.
        """
        return self.predict_with_uncertainty(structures, dtype, batch_edges)[0]

    def predict_with_uncertainty(
        self, structures: Atoms | Frame | Iterable[Any], dtype: str = "float32", batch_edges: int | None = None
    ) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Property of each structure and the predicted standard deviation of its error, in the property's unit; NaN if
        the network was not trained to predict the latter. For arguments and errors see `predict`."""
        predictions = self._predictions(structures, dtype, batch_edges)
        values, uncertainties = np.array(predictions, np.float64).reshape(-1, 2).T
        return values, uncertainties

    def _result(
        self, structure: Atoms | Frame, output: Float[np.ndarray, "c 2"], place: int, nodes: slice
    ) -> PropertyPrediction:
        value, log_sigma = output[place]
        sigma = self.metadata.std * np.exp(float(log_sigma)) if self.metadata.knows_uncertainty else np.nan
        return PropertyPrediction(float(self._in_units(value)), float(sigma))

    def predict_graphs(self, graphs: list[GraphsTuple], dtype: str = "float32") -> Float[np.ndarray, " k"]:
        """Property of graphs built by `config.inputs`, in its unit; the elements are not checked."""
        set_up_jax()
        values = np.empty(len(graphs))
        for members, outputs in self.outputs(graphs, dtype):
            values[members] = outputs[: len(members), 0]
        return self._in_units(values)

    def predict_prototype(
        self,
        prototype: Prototype | BondPairPrototype,
        assignments: Int[np.ndarray, "k sites"],
        dtype: str = "float32",
        batch_size: int = 256,
    ) -> Float[np.ndarray, " k"]:
        """Property of one prototype for many assignments of elements to its sites, in the property's unit.

        Args:
            prototype: of the kind that the network reads; all crystals share it.
            assignments: (k, sites) atomic numbers.

        Raises:
            MlipError: an element is unknown.
        """
        set_up_jax()
        self.check_elements(np.unique(assignments))
        params = self.cast(dtype)
        values = []
        for batch in prototype_batches(prototype, np.asarray(assignments, np.int32), batch_size):
            with precision_scope(dtype):
                values.append(np.asarray(property_outputs(self.model, params, batch))[:, 0])
        return self._in_units(np.concatenate(values)[: len(assignments)] if values else np.zeros(0))

    def _in_units(self, outputs: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        return outputs.astype(np.float64) * self.metadata.std + self.metadata.mean

    @classmethod
    def load(cls, path: str | os.PathLike) -> "PropertyModel":
        """Read a property model from its file.

        Raises:
            MlipError: the file does not exist, is not a property model of mlip, was written by a newer version, or is
                damaged.
        """
        return cls._load(path)

    @classmethod
    def _check_kind(cls, metadata: dict[str, Any], where: str) -> None:
        if "property" not in metadata:
            raise MlipError("holds no property model", where=where, fix="a potential: mlip.load")


def is_property_model(path: str | os.PathLike) -> bool:
    """Whether a model file holds a property model rather than a potential.

    Raises:
        MlipError: the file does not exist, is not a model file of mlip, was written by a newer version, or is damaged.
    """
    header, _ = read_model_file(path)
    return "property" in header.get("metadata", {})
