"""A trained network, whatever it predicts: config, parameters, metadata, their file, and batches of structures.

`Potential` and `PropertyModel` say what its output means. What the network reads of a structure its config says
(`mlip.graph.inputs`), so nothing here asks which model it is.
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
    """Name of the kind in messages."""
    metadata_class: ClassVar[type[BaseModel]]
    evaluation: ClassVar[Jitted]
    """Function of model, parameters, a padded batch and further arrays; pure."""

    def __post_init__(self):
        check_elements(self.config, self.elements)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: copies on devices stay in this process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    @abstractmethod
    def elements(self) -> list[str]:
        """Symbols of the known elements, by atomic number."""

    @abstractmethod
    def _facts(self) -> dict[str, str]:
        """Facts for `repr`, beside those that all networks have."""

    @abstractmethod
    def _scales(self) -> dict[str, Any]:
        """The part of the metadata that predictions depend on."""

    @abstractmethod
    def _batch_edges(self) -> int:
        """Edges, about, that go through the device together."""

    def _constants(self) -> tuple[float, ...]:
        """Further arguments of `evaluation`, after the batch."""
        return ()

    @abstractmethod
    def _result(self, structure: Atoms, output: Any, place: int, nodes: slice) -> Any:
        """The prediction for one structure, from the output for its batch.

        Args:
            place: the structure's place in the batch.
            nodes: its graph's nodes in the batch.
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
        """16 hexadecimal digits that another model hardly has: of configuration, parameters and scales."""
        return fingerprint(self.config, self.params, self._scales())

    @cached_property
    def model(self) -> nn.Module:
        """The flax module."""
        return build_model(self.config)

    @property
    def n_parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    @cached_property
    def _is_known(self) -> np.ndarray:
        """(119,) whether an atomic number is of a known element."""
        known = np.zeros(len(chemical_symbols), bool)
        known[[atomic_numbers[symbol] for symbol in self.elements]] = True
        return known

    def check_elements(self, numbers: np.ndarray, where: str | None = None) -> None:
        """
        Raises:
            MlipError: naming the elements that the network does not know.
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
        """The parameters in `dtype` ("float32" or "float64"), as device arrays, which are kept."""
        if dtype not in self._cast:
            with precision_scope(dtype):
                self._cast[dtype] = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), self.params)
        return self._cast[dtype]

    @cached_property
    def _cast(self) -> dict[str, Any]:
        return {}

    def on_devices(self, dtype: str) -> Devices:
        """The devices of this process, each with the parameters in `dtype`."""
        if dtype not in self._on_devices:
            self._on_devices[dtype] = Devices(self.cast(dtype))
        return self._on_devices[dtype]

    @cached_property
    def _on_devices(self) -> dict[str, Devices]:
        return {}

    def try_predict(
        self, structures: Atoms | Frame | Iterable[Any], dtype: str = "float32", batch_edges: int | None = None
    ) -> list[Any | MlipError]:
        """A prediction for each structure, in their order, or why there can be none; one never spoils the others.

        Arguments and predictions are those of `predict`.

        Raises:
            MlipError: something that is no structure, or another dtype.
        """
        precision_scope(dtype)  # an unknown dtype fails before any work
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
        """
        Raises:
            MlipError: of the first structure that nothing can be predicted for, with its place in the list.
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
        """Batches: the places of the graphs that they hold, and the output for them; by default of `evaluation`."""
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
        yield evaluate(first, next(turns))  # alone: it compiles
        # While one batch is on a device, the host prepares another; on a CPU both share the cores.
        with ThreadPoolExecutor(2 * len(devices)) as pool:
            yield from pool.map(evaluate, others, itertools.islice(turns, len(others)))

    def save(self, path: str | os.PathLike) -> Path:
        """Write one safetensors file: parameters as tensors, everything else as JSON in the header. Atomic."""
        header, tensors = self._further_contents()
        header = {"config": self.config.model_dump(), "metadata": self.metadata.model_dump(), **header}
        return write_model_file(path, header, self.params | tensors)

    def _further_contents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Entries of header and tensors beside config, metadata and parameters."""
        return {}, {}

    @classmethod
    def _further_fields(cls, header: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        """The fields of `_further_contents`, whose tensors are taken out of `params`."""
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
        """
        Raises:
            MlipError: the file's metadata are those of another kind.
        """


def init_parameters(config: BaseModel, seed: int = 0) -> Any:
    """Random parameters of a network, float32."""
    initialize = jax.jit(build_model(config).init)  # compiled, the unused forward pass costs nothing
    # JAX's default generator takes three times as long to compile, for the hundred arrays of a property model; those of
    # potentials keep it, so that a recipe's seed gives the parameters that it always gave.
    generator = "threefry2x32" if target_of(config) == "energy" else "rbg"
    return initialize(jax.random.key(seed, impl=generator), config.inputs.example())["params"]


def check_parameters(config: BaseModel, params: Any, where: str) -> None:
    """
    Raises:
        MlipError: a parameter of the network is missing, superfluous, or has another shape.
    """
    check_shapes(jax.eval_shape(partial(init_parameters, config)), params, where)
