"""Base class of trained networks: config, parameters, metadata, model file, and prediction for batches of structures.

The subclasses `Potential` and `PropertyModel` define the meaning of the output. The config defines the input
(`mlip.graph.inputs`), so nothing here depends on the model.
"""

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from flax import linen as nn
from pydantic import BaseModel, ValidationError

from mlip.data.records import Frame
from mlip.data.structures import as_materials
from mlip.devices import Devices, Turn
from mlip.errors import MlipError
from mlip.graph.batching import Shape, pack, pad_batch
from mlip.graph.stacked_structures import Structures
from mlip.model_description import description, fingerprint, html_table
from mlip.model_file import check_shapes, read_model_file, write_model_file
from mlip.models import build_model, check_elements, parse_config, target_of
from mlip.programs import Jitted
from mlip.runtime import precision_scope, set_up_jax


@dataclass(frozen=True, eq=False, repr=False)
class TrainedNetwork(ABC):
    """A network with its parameters and metadata. Immutable; `params` is a pytree of float32 (or float64) arrays."""

    config: BaseModel
    params: Any
    metadata: BaseModel

    noun: ClassVar[str]
    """Word for this kind of network in messages."""
    metadata_class: ClassVar[type[BaseModel]]
    evaluation: ClassVar[Jitted]
    """Pure function of model, parameters, padded batch and the values of `_constants`."""

    def __post_init__(self):
        check_elements(self.config, self.elements)

    def __getstate__(self) -> dict[str, Any]:
        """The dataclass fields without the cached device arrays."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    @abstractmethod
    def elements(self) -> list[str]:
        """Symbols of the known elements, sorted by atomic number."""

    @abstractmethod
    def _facts(self) -> dict[str, str]:
        """Facts for `repr` in addition to those common to all networks."""

    @abstractmethod
    def _scales(self) -> dict[str, Any]:
        """Part of the metadata that affects predictions."""

    @abstractmethod
    def _batch_edges(self) -> int:
        """Approximate number of edges evaluated at once."""

    def _constants(self) -> tuple[float, ...]:
        """Further arguments of `evaluation`, after the batch."""
        return ()

    @abstractmethod
    def _result(self, structure: Atoms, output: Any, place: int, nodes: slice) -> Any:
        """Prediction for one structure from the output for its batch.

        Args:
            place: index of the structure in the batch.
            nodes: slice of its nodes in the batch.
        """

    def __repr__(self) -> str:
        return description(type(self).__name__, self._all_facts())

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, self._all_facts())

    def _all_facts(self) -> dict[str, str]:
        return {
            "model": self.config.model,
            "parameters": f"{self.n_parameters:,}",
            "elements": str(len(self.elements)),
            "functional": self.metadata.functional,
            **self._facts(),
            "fingerprint": self.fingerprint,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of 16 hexadecimal digits over configuration, parameters and scales."""
        return fingerprint(self.config, self.params, self._scales())

    @cached_property
    def model(self) -> nn.Module:
        """The network as a flax module."""
        return build_model(self.config)

    @property
    def n_parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    @cached_property
    def _is_known(self) -> np.ndarray:
        """(119,) whether the element of each atomic number is known."""
        known = np.zeros(len(chemical_symbols), bool)
        known[[atomic_numbers[symbol] for symbol in self.elements]] = True
        return known

    def check_elements(self, numbers: np.ndarray, where: str | None = None) -> None:
        """Check that the network knows all elements.

        Raises:
            MlipError: names the unknown elements.
        """
        numbers = np.unique(numbers)
        is_number = (numbers > 0) & (numbers < len(self._is_known))
        unknown = numbers[~(is_number & self._is_known[np.where(is_number, numbers, 0)])].tolist()
        if unknown:
            names = (chemical_symbols[z] if 0 < z < len(chemical_symbols) else f"Z={z}" for z in unknown)
            raise MlipError(
                f"the {self.noun} does not know {', '.join(names)}",
                where=where,
                fix=f"it was trained on {len(self.elements)} elements, which `mlip info` lists",
            )

    def cast(self, dtype: str) -> Any:
        """Parameters as device arrays in `dtype` ("float32" or "float64"), cached."""
        if dtype not in self._cast:
            with precision_scope(dtype):
                self._cast[dtype] = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), self.params)
        return self._cast[dtype]

    @cached_property
    def _cast(self) -> dict[str, Any]:
        return {}

    def on_devices(self, dtype: str) -> Devices:
        """Devices of this process, each with the parameters in `dtype`."""
        if dtype not in self._on_devices:
            self._on_devices[dtype] = Devices(self.cast(dtype))
        return self._on_devices[dtype]

    @cached_property
    def _on_devices(self) -> dict[str, Devices]:
        return {}

    def try_predict(
        self, structures: Atoms | Frame | Iterable[Any], dtype: str = "float32", batch_edges: int | None = None
    ) -> list[Any | MlipError]:
        """Prediction for each structure in order, or an error that says why there is none. One failure does not affect
        the others.

        The arguments and predictions are those of `predict`.

        Raises:
            MlipError: an item is not a structure, or the dtype is unknown.
        """
        precision_scope(dtype)  # raises for an unknown dtype before any work
        structures = as_materials(structures)
        if not structures:
            return []
        set_up_jax()
        results: list[Any] = [
            one if isinstance(one, MlipError) else self._why_unknown(one.numbers) for one in structures
        ]
        known = [k for k, fault in enumerate(results) if fault is None]
        found = self.config.inputs.graphs(Structures.of(structures[k] for k in known), np.dtype(dtype).type)
        graphs: dict[int, jraph.GraphsTuple] = {}
        for k, graph in zip(known, found, strict=True):
            if isinstance(graph, MlipError):
                results[k] = graph
            else:
                graphs[k] = graph
        sound = list(graphs)
        for members, output in self.outputs(list(graphs.values()), dtype, batch_edges):
            first = 0
            for place, k in enumerate(sound[m] for m in members):
                end = first + len(graphs[k].nodes["species"])
                results[k] = self._result(structures[k], output, place, slice(first, end))
                first = end
        return results

    def _predictions(self, structures: Any, dtype: str, batch_edges: int | None) -> list[Any]:
        """Predictions for all structures.

        Raises:
            MlipError: the error of the first structure without a prediction, with its index.
        """
        results = self.try_predict(structures, dtype, batch_edges)
        for index, result in enumerate(results):
            if isinstance(result, MlipError):
                place = f"structure {index}" if result.where is None else f"structure {index}, {result.where}"
                raise MlipError(result.what, where=place, fix=result.fix)
        return results

    def _why_unknown(self, numbers: np.ndarray) -> MlipError | None:
        try:
            self.check_elements(numbers)
        except MlipError as error:
            return error
        return None

    def outputs(
        self,
        graphs: list[jraph.GraphsTuple],
        dtype: str,
        batch_edges: int | None = None,
        evaluation: Jitted | None = None,
    ) -> Iterator[tuple[list[int], Any]]:
        """Output for each batch, with the indices of its graphs; evaluated by `evaluation`, by default the network's
        own."""
        if not graphs:
            return
        evaluation = evaluation or self.evaluation
        devices = self.on_devices(dtype)
        turns = devices.turns()
        shapes = evaluation.shapes(self.model, dtype)
        budget = batch_edges or self._batch_edges()

        def evaluate(batch: tuple[list[int], Shape], turn: Turn) -> tuple[list[int], Any]:
            members, shape = batch
            graph = pad_batch([graphs[k] for k in members], shape)
            with precision_scope(dtype), turn.taken() as params:
                return members, jax.device_get(evaluation(self.model, params, graph, *self._constants()))

        first, *others = pack(graphs, shapes, max_nodes=budget, max_edges=budget, max_pairs=budget)
        yield evaluate(first, next(turns))  # first batch alone, because it compiles
        # While a device computes one batch, the host prepares the next; on a CPU both share the cores.
        with ThreadPoolExecutor(2 * len(devices)) as pool:
            yield from pool.map(evaluate, others, itertools.islice(turns, len(others)))

    def save(self, path: str | os.PathLike) -> Path:
        """Write one safetensors file: parameters as tensors, everything else as JSON in the header. Atomic."""
        header, tensors = self._further_contents()
        header = {"config": self.config.model_dump(), "metadata": self.metadata.model_dump(), **header}
        return write_model_file(path, header, self.params | tensors)

    def _further_contents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Entries of the header and of the tensors in addition to config, metadata and parameters."""
        return {}, {}

    @classmethod
    def _further_fields(cls, header: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        """Fields read from the contents that `_further_contents` wrote; removes their tensors from `params`."""
        return {}

    @classmethod
    def _load(cls, path: str | os.PathLike) -> Self:
        header, params = read_model_file(path)
        where = str(path)
        cls._check_kind(header.get("metadata", {}), where)
        try:
            config = parse_config(header["config"])
            metadata = cls.metadata_class.model_validate(header["metadata"])
            further = cls._further_fields(header, params)
        except (KeyError, ValidationError) as error:
            raise MlipError(f"damaged header, holds no {cls.noun}: {str(error).splitlines()[0]}", where=where) from None
        check_parameters(config, params, where)
        return cls(config, params, metadata, **further)

    @classmethod
    @abstractmethod
    def _check_kind(cls, metadata: dict[str, Any], where: str) -> None:
        """Check that the file holds this kind of network.

        Raises:
            MlipError: the metadata belong to another kind.
        """


def init_parameters(config: BaseModel, seed: int = 0) -> Any:
    """Random parameters of a network, float32."""
    initialize = jax.jit(build_model(config).init)  # compiled, so that the unused forward pass is skipped
    # For the hundred arrays of a property model, JAX's default generator takes three times as long to compile.
    # Potentials keep the default, so that a recipe's seed still gives the same parameters.
    generator = "threefry2x32" if target_of(config) == "energy" else "rbg"
    return initialize(jax.random.key(seed, impl=generator), config.inputs.example())["params"]


def check_parameters(config: BaseModel, params: Any, where: str) -> None:
    """Check the parameters of a network against its config.

    Raises:
        MlipError: a parameter of the network is missing, superfluous, or has another shape.
    """
    check_shapes(jax.eval_shape(partial(init_parameters, config)), params, where)
