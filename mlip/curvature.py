"""Second derivatives of a potential's energy, exact: forward over reverse differentiation of bond vectors.

With g_e = dE/dv_e on the vector v_e of each edge, a displacement t of the atoms changes v_e by t_sender - t_receiver;
the change of g_e, by one `jvp` of the gradient, is added at the senders and subtracted at the receivers. A column of
the Hessian costs about two evaluations of forces, without a step size, and a block of columns goes through the network
at once.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from mlip.data.records import Frame
from mlip.data.structures import as_materials
from mlip.energy_gradient import Evaluation, energies_forces_stress, forces_of_edges
from mlip.errors import MlipError
from mlip.graph.batching import ShapeLadder, pad_batch
from mlip.graph.stacked_structures import Structures
from mlip.models.edge_vectors import edge_vectors
from mlip.potential import Potential
from mlip.programs import Jitted
from mlip.runtime import precision_scope, products_in, set_up_jax

_EDGES_OF_BLOCK = 2**15
"""Edges, times columns, that go through the network together, about: they bound the memory."""
_MOST_COLUMNS = 48


def hessian_products(
    model: nn.Module,
    params: Any,
    graph: jraph.GraphsTuple,
    scale: float | Float[Array, ""],
    directions: Float[Array, "k n 3"],
) -> Float[Array, "k n 3"]:
    """Products of the Hessian with displacements of the atoms, eV/A^2 times the displacement's unit.

    Args:
        graph: as `mlip.graph.batching.pad_batch` makes it.
        scale: eV a unit of the model's output.
    """
    is_atom = graph.nodes["species"] > 0
    with products_in("highest"):

        def total_energy(vectors):
            energies = model.apply({"params": params}, graph._replace(edges={"vectors": vectors}))
            return scale * jnp.sum(jnp.where(is_atom, energies, 0.0))

        vectors = edge_vectors(graph, padding_length=2 * model.config.inputs.cutoff)
        _, change_of_gradient = jax.linearize(jax.grad(total_energy), vectors)
        is_real = is_atom[graph.receivers][:, None]

        def product(direction):
            strained = jnp.where(is_real, direction[graph.senders] - direction[graph.receivers], 0.0)
            changed = change_of_gradient(strained)
            return -forces_of_edges(changed, graph, len(is_atom))

        return jax.vmap(product)(directions)


_products = Jitted(hessian_products)


def hessian_of(
    potential: Potential,
    structure: Any,
    dtype: str = "float64",
    block: int | None = None,
    atoms: Sequence[int] | None = None,
) -> Float[np.ndarray, "k n 3 3"]:
    """Compute what `Potential.hessian` returns; its docstring describes the arguments."""
    graph = graph_of_one(potential, structure, dtype)
    n_atoms, n_edges = len(graph.nodes["species"]), len(graph.senders)
    moved = np.arange(n_atoms) if atoms is None else np.asarray(atoms, dtype=int)
    if len(moved) == 0 or not ((moved >= 0) & (moved < n_atoms)).all():
        raise MlipError(f"are {moved.tolist()} of {n_atoms}", where="atoms", fix="places in the structure, from 0")
    columns = (3 * moved[:, None] + np.arange(3)).ravel()
    block = block or columns_together(n_edges)
    set_up_jax()
    padded = pad_batch([graph], ShapeLadder().smallest(n_atoms + 1, max(n_edges, 1), 2))
    params, found = potential.cast(dtype), []
    with precision_scope(dtype):
        scale = np.asarray(potential.metadata.scale, dtype)
        for first in range(0, len(columns), block):
            directions = unit_displacements(columns[first : first + block], block, len(padded.nodes["species"]), dtype)
            products = _products(potential.model, params, padded, scale, directions)
            found.append(np.asarray(products)[: len(columns) - first, :n_atoms])
    rows = np.concatenate(found).astype(np.float64)
    return rows.reshape(len(moved), 3, n_atoms, 3).swapaxes(1, 2)


def columns_together(n_edges: int) -> int:
    """Columns of a Hessian that go through the network at once, as memory allows."""
    return int(np.clip(_EDGES_OF_BLOCK // max(n_edges, 1), 1, _MOST_COLUMNS))


def graph_of_one(potential: Potential, structure: Any, dtype: str) -> jraph.GraphsTuple:
    """The graph of the structure that second derivatives are asked of.

    Raises:
        MlipError: an unknown element, coincident atoms, several structures, something that is none.
    """
    found = as_materials(structure)
    if len(found) != 1:
        raise MlipError(f"a Hessian is of one structure, and {len(found)} are given")
    (one,) = found
    if isinstance(one, MlipError):
        raise one
    potential.of_head(None)
    potential.check_elements(one.numbers)
    (graph,) = potential.config.inputs.graphs(Structures.of([one]), np.dtype(dtype).type)
    if isinstance(graph, MlipError):
        raise graph
    return graph


def unit_displacements(
    columns: Int[np.ndarray, " k"], block: int, n_nodes: int, dtype: str
) -> Float[np.ndarray, "b n 3"]:
    """One atom along one axis each; a block that is not full ends with none."""
    directions = np.zeros((block, n_nodes * 3), dtype)
    directions[np.arange(len(columns)), columns] = 1
    return directions.reshape(block, n_nodes, 3)


def energies_and_curvature(
    model: nn.Module, params: Any, graph: jraph.GraphsTuple, scale: Any, shift: Any
) -> Evaluation:
    """Evaluation of a batch with the Hessian's products with nodes["direction"]."""
    return energies_forces_stress(model, params, graph, scale, shift, directions=graph.nodes["direction"])


_along = Jitted(energies_and_curvature)


def with_curvature(potential: Potential, frames: Sequence[Frame], dtype: str = "float64") -> list[Frame]:
    """Frames whose curvature along their direction is the potential's; those without a direction as they are.

    Args:
        frames: of elements that the potential knows, as `Potential.predict` takes them.

    Raises:
        MlipError: coincident atoms, or another structure that no graph can be made of.
    """
    set_up_jax()
    found = list(frames)
    chosen = [k for k, frame in enumerate(frames) if frame.direction is not None]
    graphs = []
    made = potential.config.inputs.graphs(Structures.of([frames[k] for k in chosen]), np.dtype(dtype).type)
    for k, graph in zip(chosen, made, strict=True):
        if isinstance(graph, MlipError):
            raise graph
        graphs.append(graph._replace(nodes=graph.nodes | {"direction": frames[k].direction.astype(dtype)}))
    for members, output in potential.outputs(graphs, dtype, evaluation=_along):
        first = 0
        for k in (chosen[m] for m in members):
            atoms = slice(first, first + len(frames[k]))
            found[k] = replace(frames[k], curvature=np.asarray(output.curvature[atoms], np.float64))
            first = atoms.stop
    return found


def random_direction(n_atoms: int, rng: np.random.Generator) -> Float[np.ndarray, "n 3"] | None:
    """A displacement of length 1 that leaves the center of the atoms where it is; None of a single atom."""
    if n_atoms < 2:
        return None
    direction = rng.normal(size=(n_atoms, 3))
    direction -= direction.mean(axis=0)
    return direction / np.linalg.norm(direction)
