"""A property model: a network with its parameters and metadata; a property of each crystal from it; its file."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from flax import linen as nn
from jaxtyping import Array, Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlip import __version__
from mlip.data.records import Frame
from mlip.data.structures import as_structures
from mlip.errors import MlipError
from mlip.graph.batching import pack, pad_batch
from mlip.graph.inputs import all_sound
from mlip.graph.prototype import Prototype, prototype_batches
from mlip.graph.structures import Structures
from mlip.model_description import description, fingerprint, html_table
from mlip.model_file import check_shapes, read_model_file, write_model_file
from mlip.models import build_model, check_elements, parse_config
from mlip.programs import Jitted
from mlip.runtime import ProductPrecision, precision_scope, products_in, set_up_jax

_BATCH_EDGES = 2**12


class PropertyMetadata(BaseModel):
    """What a property model says of itself; JSON in the file's header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    property: str
    """What is predicted, by its name in a store: e_above_hull, e_form, volume, ..."""
    mean: float = 0.0
    """Of the property on the training data, in its unit; 0 of the network's output."""
    std: float = 1.0
    """The property's unit times 1 of the network's output."""
    elements: list[str]
    """That were trained, or have a vector."""
    functional: str = "unknown"
    knows_uncertainty: bool = False
    """Its loss was one that trains the second output, the logarithm of an uncertainty."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    precision: str = "unknown"
    """Precision of the matrix products it was trained with: float32, float64, tf32 or bf16."""
    mlip_version: str = __version__

    @field_validator("elements")
    @classmethod
    def _are_elements(cls, elements: list[str]) -> list[str]:
        if strangers := sorted(set(elements) - set(chemical_symbols[1:])):
            raise ValueError(f"no elements: {', '.join(strangers)}")
        return elements


@Jitted
def evaluate(model: nn.Module, params: Any, batch: Any, products: ProductPrecision = "highest") -> Float[Array, "c 2"]:
    """The network's two outputs for each crystal, compiled once a model and shape for the whole process, which keeps
    some of these programs."""
    with products_in(products):
        return model.apply({"params": params}, batch)


@dataclass(frozen=True, eq=False, repr=False)
class PropertyModel:
    """A network, its parameters and metadata. Immutable; `params` is a pytree of float32 (or float64) arrays."""

    config: BaseModel
    params: Any
    metadata: PropertyMetadata

    def __post_init__(self):
        check_elements(self.config, self.metadata.elements)

    def __repr__(self) -> str:
        return description("PropertyModel", self._facts())

    def _repr_html_(self) -> str:
        return html_table("PropertyModel", self._facts())

    def _facts(self) -> dict[str, str]:
        return {
            "model": self.config.model,
            "predicts": self.metadata.property,
            "parameters": f"{self.n_parameters:,}",
            "elements": str(len(self.elements)),
            "functional": self.metadata.functional,
            "fingerprint": self.fingerprint,
        }

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that another model hardly has: of configuration, parameters and scale."""
        scale = self.metadata.model_dump(include={"property", "mean", "std"})
        return fingerprint(self.config, self.params, scale)

    @cached_property
    def model(self) -> nn.Module:
        return build_model(self.config)

    @property
    def elements(self) -> list[str]:
        """Symbols of the known elements, by atomic number."""
        return sorted(self.metadata.elements, key=atomic_numbers.__getitem__)

    @property
    def n_parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    def cast(self, dtype: str) -> Any:
        """The parameters in `dtype` ("float32" or "float64"), as device arrays."""
        with precision_scope(dtype):
            return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), self.params)

    def check_elements(self, numbers: np.ndarray, where: str | None = None) -> None:
        """
        Raises:
            MlipError: naming the elements that the model does not know.
        """
        if unknown := sorted({chemical_symbols[z] for z in set(np.ravel(numbers).tolist())} - set(self.elements)):
            raise MlipError(f"the model does not know {', '.join(unknown)}", where=where)

    def predict(
        self, structures: Atoms | Frame | Iterable[Any], dtype: str = "float32", batch_edges: int = _BATCH_EDGES
    ) -> Float[np.ndarray, " k"]:
        """The property of each structure, in its unit.

        Args:
            structures: ASE Atoms, pymatgen Structures or Frames, any iterable of them, or one; any periodicity, relaxed
                or not; not modified.
            batch_edges: about how many edges go through the device together.

        Raises:
            MlipError: unknown element, coincident atoms, too few neighbours; names the structure by its place.
        """
        precision_scope(dtype)
        structures = as_structures(structures)
        if not structures:
            return np.zeros(0)
        set_up_jax()
        for index, structure in enumerate(structures):
            self.check_elements(structure.numbers, where=f"structure {index}")
        graphs = all_sound(self.config.inputs.graphs(Structures.of(structures), np.dtype(dtype).type))
        shapes = evaluate.shapes(self.model, dtype)
        values = np.zeros(len(graphs))
        params = self.cast(dtype)
        for members, shape in pack(graphs, shapes, max_edges=batch_edges):
            with precision_scope(dtype):
                output = evaluate(self.model, params, pad_batch([graphs[k] for k in members], shape))
                values[members] = np.asarray(output)[: len(members), 0]
        return self._in_units(values)

    def predict_prototype(
        self,
        prototype: Prototype,
        assignments: Int[np.ndarray, "k sites"],
        dtype: str = "float32",
        batch_size: int = 256,
    ) -> Float[np.ndarray, " k"]:
        """The property of one prototype with many assignments of elements to its sites, in its unit.

        Args:
            assignments: (k, sites) atomic numbers.

        Raises:
            MlipError: unknown element.
        """
        set_up_jax()
        self.check_elements(np.unique(assignments))
        params = self.cast(dtype)
        values = []
        for batch in prototype_batches(prototype, np.asarray(assignments, np.int32), batch_size):
            with precision_scope(dtype):
                values.append(np.asarray(evaluate(self.model, params, batch))[:, 0])
        return self._in_units(np.concatenate(values)[: len(assignments)] if values else np.zeros(0))

    def _in_units(self, outputs: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        return outputs.astype(np.float64) * self.metadata.std + self.metadata.mean

    def save(self, path: str | os.PathLike) -> Path:
        """Write one safetensors file: parameters as tensors, everything else as JSON in the header. Atomic."""
        header = {"config": self.config.model_dump(), "metadata": self.metadata.model_dump()}
        return write_model_file(path, header, self.params)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "PropertyModel":
        """
        Raises:
            MlipError: no such file, not a property model of ours, written by a newer version, damaged.
        """
        header, params = read_model_file(path)
        try:
            config = parse_config(header["config"])
            metadata = PropertyMetadata.model_validate(header["metadata"])
        except (KeyError, ValidationError) as error:
            raise MlipError(f"holds no property model: {str(error).splitlines()[0]}", where=str(path)) from None
        check_parameters(config, params, str(path))
        return cls(config, params, metadata)


def is_property_model(path: str | os.PathLike) -> bool:
    """Whether a model's file is of a property model, not of a potential.

    Raises:
        MlipError: no such file, not a file of ours, written by a newer version, damaged.
    """
    header, _ = read_model_file(path)
    return "property" in header.get("metadata", {})


def init_parameters(config: BaseModel, seed: int = 0) -> Any:
    """Random parameters of a property model, float32."""
    initialise = jax.jit(build_model(config).init)  # compiled, the unused forward pass costs nothing
    # The default generator takes three times as long to compile, for a hundred arrays.
    return initialise(jax.random.key(seed, impl="rbg"), config.inputs.example())["params"]


def check_parameters(config: BaseModel, params: Any, where: str) -> None:
    """
    Raises:
        MlipError: a parameter of the model is missing, superfluous, or has another shape.
    """
    check_shapes(jax.eval_shape(partial(init_parameters, config)), params, where)
