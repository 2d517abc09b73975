"""A potential: a model with its parameters and metadata; energies, forces and stress from it; its file.

Forces and stress come from one backward pass. With v_e = x_j + S L - x_i the vector of edge e from centre i to
neighbour j, and g_e = dE/dv_e:  F_i = sum_(e at i) g_e - sum_(e from i) g_e,  stress = sum_e v_e (x) g_e / V.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from flax import linen as nn
from jaxtyping import Array, Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlip import __version__
from mlip.data.records import Frame
from mlip.data.structures import as_structures
from mlip.errors import MlipError
from mlip.graph.batching import Shape, pack, pad_batch
from mlip.graph.inputs import all_sound
from mlip.graph.structures import Structures
from mlip.model_description import description, fingerprint, html_table
from mlip.model_file import check_shapes, read_model_file, write_model_file
from mlip.models import build_model, check_elements, heads_of, parse_config, select_head
from mlip.programs import Jitted
from mlip.runtime import ProductPrecision, precision_scope, products_in, set_up_jax
from mlip.units import VOIGT

_BATCH_EDGES = {"cpu": 2**13}  # measured; powers of two, as shapes are
_BATCH_EDGES_ELSEWHERE = 2**16


class Evaluation(NamedTuple):
    """What a potential gives for a batch. Energies lack the reference energies, which are added on the host in
    float64: they are two orders of magnitude larger than what float32 should resolve."""

    node_energies: Float[Array, " n"]
    """eV; zero for padding."""
    energy: Float[Array, " g"]
    """eV."""
    forces: Float[Array, "n 3"]
    """eV/A."""
    stress: Float[Array, "g 6"]
    """eV/A^3, ASE's Voigt order and sign; zero where the cell has no volume."""


def edge_vectors(graph: jraph.GraphsTuple, padding_length: float) -> Float[Array, "e 3"]:
    """Vectors from centre (receiver) to neighbour (sender), A; padding edges get `padding_length` along x."""
    positions = graph.nodes["positions"]
    graph_of_node = jnp.repeat(jnp.arange(len(graph.n_node)), graph.n_node, total_repeat_length=len(positions))
    cells = graph.globals["cell"].astype(positions.dtype)[graph_of_node[graph.receivers]]
    shifts = jnp.einsum("ei,eij->ej", graph.edges["shifts"].astype(positions.dtype), cells, precision="highest")
    vectors = positions[graph.senders] + shifts - positions[graph.receivers]
    is_real = graph.nodes["species"][graph.receivers] > 0
    return jnp.where(is_real[:, None], vectors, jnp.array([padding_length, 0.0, 0.0], positions.dtype))


def energies_forces_stress(
    model: nn.Module,
    params: Any,
    graph: jraph.GraphsTuple,
    scale: float | Float[Array, " n"],
    shift: float,
    products: ProductPrecision = "highest",
) -> Evaluation:
    """Evaluate a padded batch; pure, and differentiable with respect to `params`.

    Args:
        graph: as `mlip.graph.batching.pad_batch` makes it.
        scale, shift: a node's energy is scale * model + shift, eV; heads may differ in scale.
        products: precision of the network's matrix products; less than the highest is for training alone.
    """
    is_atom = graph.nodes["species"] > 0
    with products_in(products):

        def total_energy(vectors):
            energies = model.apply({"params": params}, graph._replace(edges={"vectors": vectors}))
            energies = jnp.where(is_atom, scale * energies + shift, 0.0)
            return jnp.sum(energies), energies

        vectors = edge_vectors(graph, padding_length=2 * model.config.cutoff)
        gradient, node_energies = jax.grad(total_energy, has_aux=True)(vectors)

    n_nodes, n_graphs = len(is_atom), len(graph.n_node)
    forces = jax.ops.segment_sum(gradient, graph.receivers, n_nodes, indices_are_sorted=True)
    forces -= jax.ops.segment_sum(gradient, graph.senders, n_nodes)
    graph_of_node = jnp.repeat(jnp.arange(n_graphs), graph.n_node, total_repeat_length=n_nodes)
    sum_nodes = partial(jax.ops.segment_sum, segment_ids=graph_of_node, num_segments=n_graphs, indices_are_sorted=True)
    virial_of_edge = jnp.stack(
        [0.5 * (vectors[:, i] * gradient[:, j] + vectors[:, j] * gradient[:, i]) for i, j in VOIGT], axis=-1
    )
    virial = sum_nodes(jax.ops.segment_sum(virial_of_edge, graph.receivers, n_nodes, indices_are_sorted=True))
    volume = jnp.abs(jnp.linalg.det(graph.globals["cell"].astype(vectors.dtype)))[:, None]
    stress = jnp.where(volume > 0, virial / jnp.where(volume > 0, volume, 1.0), 0.0)
    return Evaluation(node_energies, sum_nodes(node_energies), forces, stress)


evaluate_batch = Jitted(energies_forces_stress)
"""`energies_forces_stress`, compiled once a model and shape for the whole process, which keeps a number of programs."""


class Head(BaseModel):
    """What turns a model's output into energies of one level of theory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference_energies: dict[str, float]
    """E0 of each element that the potential knows, eV; the total energy includes them."""
    scale: float = 1.0
    """eV a unit of the model's output."""
    shift: float = 0.0
    """eV an atom."""
    functional: str = "unknown"

    @field_validator("reference_energies")
    @classmethod
    def _keys_are_elements(cls, energies: dict[str, float]) -> dict[str, float]:
        if strangers := sorted(set(energies) - set(chemical_symbols[1:])):
            raise ValueError(f"no elements: {', '.join(strangers)}")
        return energies


class PotentialMetadata(Head):
    """What a potential says of itself; JSON in the file's header."""

    heads: dict[str, Head] = Field(default_factory=dict)
    """Of a potential with several heads; its own `reference_energies` are empty then, its scale and shift unused."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Where parameters and data came from: recipe, store, source checkpoint, citations."""
    precision: str = "float32"
    """Precision of the matrix products it was trained with: float32, float64, tf32 or bf16, as its recipe asked for."""
    mlip_version: str = __version__

    @classmethod
    def of_heads(cls, heads: dict[str, Head], **rest: Any) -> "PotentialMetadata":
        """For one head or several."""
        if len(heads) == 1:
            return cls(**next(iter(heads.values())).model_dump(), **rest)
        functional = "+".join(dict.fromkeys(head.functional for head in heads.values()))
        return cls(reference_energies={}, functional=functional, heads=heads, **rest)


@dataclass(frozen=True, eq=False, repr=False)
class Potential:
    """A model, its parameters and metadata. Immutable; `params` is a pytree of float32 (or float64) arrays."""

    config: BaseModel
    params: Any
    metadata: PotentialMetadata

    def __post_init__(self):
        check_elements(self.config, self.elements)
        described = tuple(self.metadata.heads) if len(self.heads) > 1 else self.heads
        if set(described) != set(self.heads):
            raise MlipError(f"the network has the heads {self.heads}, the metadata {described}")

    def __repr__(self) -> str:
        return description("Potential", self._facts())

    def _repr_html_(self) -> str:
        return html_table("Potential", self._facts())

    def _facts(self) -> dict[str, str]:
        return {
            "model": self.config.model,
            "parameters": f"{self.n_parameters:,}",
            "elements": str(len(self.elements)),
            "cutoff": f"{self.cutoff:g} A",
            "functional": self.metadata.functional,
            **({"heads": ", ".join(self.heads)} if len(self.heads) > 1 else {}),
            "fingerprint": self.fingerprint,
        }

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that another potential hardly has: of configuration, parameters and heads."""
        heads = {"own": self.metadata.model_dump(include=set(Head.model_fields) | {"heads"})}
        return fingerprint(self.config, self.params, heads)

    @cached_property
    def model(self) -> nn.Module:
        return build_model(self.config)

    @property
    def cutoff(self) -> float:
        """Longest edge, A."""
        return self.config.cutoff

    @property
    def elements(self) -> list[str]:
        """Symbols of the known elements, by atomic number."""
        heads = (self.metadata, *self.metadata.heads.values())
        return sorted(set().union(*(head.reference_energies for head in heads)), key=atomic_numbers.__getitem__)

    @property
    def heads(self) -> tuple[str, ...]:
        """Levels of theory that share the network."""
        return heads_of(self.config)

    def of_head(self, head: str | None) -> "Potential":
        """The potential of one head, by itself; None is the only one that there is.

        Raises:
            MlipError: naming the heads, if there is no such head, or no choice among several.
        """
        if head is None and len(self.heads) > 1:
            raise MlipError("the potential has several heads", fix=_choose(self.heads))
        if head not in (None, *self.heads):
            raise MlipError(f"the potential has no head {head!r}", fix=_choose(self.heads))
        if len(self.heads) == 1:
            return self
        config, params = select_head(self.config, self.params, head)
        metadata = PotentialMetadata.of_heads(
            {head: self.metadata.heads[head]},
            provenance=self.metadata.provenance | {"head": head},
            precision=self.metadata.precision,
            mlip_version=self.metadata.mlip_version,
        )
        return Potential(config, params, metadata)

    @cached_property
    def reference_energies_by_z(self) -> Float[np.ndarray, "119"]:
        """E0 by atomic number, eV; NaN for unknown elements.

        Raises:
            MlipError: of several heads, none was chosen.
        """
        return energies_by_z(self.of_head(None).metadata.reference_energies)

    @property
    def n_parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    def check_elements(self, numbers: np.ndarray, where: str | None = None) -> None:
        """
        Raises:
            MlipError: naming the elements that the potential does not know.
        """
        known = self.reference_energies_by_z
        unknown = sorted({int(z) for z in numbers if not 0 < z < len(known) or np.isnan(known[z])})
        if unknown:
            names = ", ".join(chemical_symbols[z] if 0 < z < len(known) else f"Z={z}" for z in unknown)
            raise MlipError(
                f"the potential does not know {names}",
                where=where,
                fix=f"it was trained on {len(self.elements)} elements, which `mlip info` lists",
            )

    def cast(self, dtype: str) -> Any:
        """The parameters in `dtype` ("float32" or "float64"), as device arrays."""
        with precision_scope(dtype):
            return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), self.params)

    def predict(
        self, structures: Atoms | Frame | Iterable[Any], dtype: str = "float32", batch_edges: int | None = None
    ) -> list[dict[str, Any]]:
        """Energies, forces and stresses of many structures, in their order.

        Args:
            structures: ASE Atoms, pymatgen Structures or Frames, any iterable of them, or one; any periodicity; not
                modified.
            batch_edges: about how many edges go through the device together; by default 8,192 on a CPU and
                65,536 elsewhere.

        Returns:
            For each a dict: `energy` eV, `forces` (n, 3) eV/A, `stress` (6,) eV/A^3 (NaN where the cell has no
            volume), `energies` (n,) eV.

        Raises:
            MlipError: unknown element, coincident atoms, something that is no structure; names the structure by its
                place in the list. Several heads, and none was chosen.
        """
        precision_scope(dtype)  # an unknown dtype fails before any work
        structures = as_structures(structures)
        if not structures:
            return []
        set_up_jax()
        for index, structure in enumerate(structures):
            self.check_elements(structure.numbers, where=f"structure {index}")
        graphs = all_sound(self.config.inputs.graphs(Structures.of(structures), np.dtype(dtype).type))
        results: list[dict[str, Any]] = [{}] * len(graphs)
        for members, evaluation in self._evaluations(graphs, dtype, batch_edges):
            start = 0
            for place, k in enumerate(members):
                stop = start + len(structures[k])
                results[k] = self._results_of(structures[k], evaluation, place, slice(start, stop))
                start = stop
        return results

    def _evaluations(
        self, graphs: list[jraph.GraphsTuple], dtype: str, batch_edges: int | None
    ) -> Iterator[tuple[list[int], Evaluation]]:
        """Batches, as which graphs they hold and what these evaluate to."""
        with precision_scope(dtype):
            params = self.cast(dtype)
        shapes = evaluate_batch.shapes(self.model, dtype)
        budget = batch_edges or _BATCH_EDGES.get(jax.default_backend(), _BATCH_EDGES_ELSEWHERE)

        def evaluate(batch: tuple[list[int], Shape]) -> tuple[list[int], Evaluation]:
            members, shape = batch
            graph = pad_batch([graphs[k] for k in members], shape)
            with precision_scope(dtype):
                evaluation = evaluate_batch(self.model, params, graph, self.metadata.scale, self.metadata.shift)
                return members, jax.device_get(evaluation)

        first, *others = pack(graphs, shapes, max_edges=budget)
        yield evaluate(first)  # alone: it compiles
        # While one batch is on the device, the host prepares another; on a CPU both share the cores.
        with ThreadPoolExecutor(2) as pool:
            yield from pool.map(evaluate, others)

    def _results_of(self, structure: Atoms | Frame, evaluation: Evaluation, place: int, nodes: slice) -> dict[str, Any]:
        """One structure's share of a batch, reference energies added in float64."""
        energies = evaluation.node_energies[nodes].astype(np.float64)
        energies += self.reference_energies_by_z[structure.numbers]
        stress = evaluation.stress[place].astype(np.float64)
        if abs(np.linalg.det(np.asarray(structure.cell))) == 0:
            stress = np.full(6, np.nan)
        return {
            "energy": float(energies.sum()),
            "forces": evaluation.forces[nodes].astype(np.float64),
            "stress": stress,
            "energies": energies,
        }

    def with_metadata(self, **changes: Any) -> "Potential":
        """A copy whose metadata has these fields changed."""
        return replace(self, metadata=self.metadata.model_copy(update=changes))

    def save(self, path: str | os.PathLike) -> Path:
        """Write one safetensors file: parameters as tensors, everything else as JSON in the header. Atomic."""
        header = {"config": self.config.model_dump(), "metadata": self.metadata.model_dump()}
        return write_model_file(path, header, self.params)

    @classmethod
    def load(cls, path: str | os.PathLike, head: str | None = None) -> "Potential":
        """
        Args:
            head: of a potential with several, the one that is wanted; None keeps all of them, for `of_head`.

        Raises:
            MlipError: no such file, not a potential of ours, written by a newer version, damaged, no such head.
        """
        header, params = read_model_file(path)
        potential = _from_header(cls, header, params, str(path))
        return potential if head is None else potential.of_head(head)


load = Potential.load


def open_potential(potential: Potential | str | os.PathLike, head: str | None = None) -> Potential:
    """A potential, or the file that holds one, ready to be evaluated.

    Raises:
        MlipError: as `Potential.load` and `Potential.of_head`.
    """
    return (potential if isinstance(potential, Potential) else Potential.load(potential)).of_head(head)


def energies_by_z(energies: dict[str, float]) -> Float[np.ndarray, "119"]:
    """By atomic number; NaN for elements that are not there."""
    table = np.full(len(chemical_symbols), np.nan)
    for symbol, energy in energies.items():
        table[atomic_numbers[symbol]] = energy
    return table


def _choose(heads: Sequence[str]) -> str:
    return f"choose one of {', '.join(heads)}: head=NAME; mlip convert POTENTIAL OUT --head NAME makes a file of it"


def _from_header(cls: type[Potential], header: dict[str, Any], params: Any, where: str) -> Potential:
    if "property" in header.get("metadata", {}):
        raise MlipError(
            f"predicts {header['metadata']['property']}: it is no potential", where=where, fix="mlip.PropertyModel.load"
        )
    try:
        config = parse_config(header["config"])
        metadata = PotentialMetadata.model_validate(header["metadata"])
    except (KeyError, ValidationError) as error:
        raise MlipError(f"damaged header: {str(error).splitlines()[0]}", where=where) from None
    check_parameters(config, params, where)
    return cls(config, params, metadata)


def check_parameters(config: BaseModel, params: Any, where: str) -> None:
    """
    Raises:
        MlipError: a parameter of the model is missing, superfluous, or has another shape.
    """
    check_shapes(jax.eval_shape(partial(init_params, config)), params, where)


def init_params(config: BaseModel, seed: int = 0) -> Any:
    """Random parameters of a model, float32."""
    initialise = jax.jit(build_model(config).init)  # compiled, the unused forward pass costs nothing
    return initialise(jax.random.key(seed), config.inputs.example())["params"]
