"""Dynamical matrices of a crystal at any wave vector, exact, from the graph of one unit cell.

A wave with the wave vector q displaces the atom j, at r_j, by Re(c_j exp(i (q.r_j + t))), where t is the wave's phase.
All that a network makes of an atom or an edge is then a function of q.r + t, and to first order in c its first harmonic
added to a constant. Three phases, t = 0 and plus or minus a third of a turn, determine both. So the network runs on
three copies of the cell, and an edge reads its sender's features at the phase that the wave has there, from those of
the three copies (`mlip.graph.ends.WaveEnds`). The energy of the copies is an ordinary function of their displacements,
whose Hessian, by forward over reverse differentiation, is the dynamical matrix: second harmonics, which three phases
cannot tell from the first, enter an energy of second order only where they cancel.

Whatever the range of the forces, and commensurate or not, no supercell is needed. A wave vector costs 3 n columns of
the Hessian of three cells.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Complex, Float

from mlip.curvature import columns_together, graph_of_one, unit_displacements
from mlip.data.structures import as_structures
from mlip.errors import MlipError
from mlip.graph.batching import ShapeLadder, pad_batch
from mlip.graph.ends import PHASES, WaveEnds, any_rows, ascending_rows, graph_of_node
from mlip.models.edge_vectors import edge_vectors
from mlip.potential import Potential
from mlip.programs import Jitted
from mlip.runtime import precision_scope, products_in, set_up_jax

_COPIES = len(PHASES)


def wave_products(
    model: nn.Module,
    params: Any,
    graph: jraph.GraphsTuple,
    scale: float | Float[Array, ""],
    wave_vector: Float[Array, "3"],
    amplitudes: Float[Array, "k n 3"],
) -> Float[Array, "k n 3"]:
    """Changes of minus the forces on the atoms of the copies, eV/A^2 times the displacements' unit.

    Args:
        graph: the copies of one structure, one a phase, as `mlip.graph.batching.pad_batch` makes it.
        scale: eV a unit of the model's output.
        wave_vector: Cartesian, 1/A, with the factor 2 pi.
        amplitudes: displacements of the copies' atoms at the crest of the wave.
    """
    is_atom = graph.nodes["species"] > 0
    with products_in("highest"):
        vectors = edge_vectors(graph, padding_length=2 * model.config.inputs.cutoff)
        is_real = ascending_rows(is_atom, graph.receivers)
        ahead = jnp.where(is_real, vectors @ wave_vector, 0.0)
        copy_of_node = graph_of_node(graph)
        copies = jnp.where(is_real, ascending_rows(copy_of_node, graph.receivers), 0)
        senders = WaveEnds.of(graph.senders, copies, graph.n_node[0], ahead, is_real)

        def total_energy(displacements):
            moved = any_rows(displacements, senders) - ascending_rows(displacements, graph.receivers)
            edges = {"vectors": vectors + jnp.where(is_real[:, None], moved, 0.0)}
            energies = model.apply({"params": params}, graph._replace(edges=edges, senders=senders))
            return scale * jnp.sum(jnp.where(is_atom, energies, 0.0))

        _, product = jax.linearize(jax.grad(total_energy), jnp.zeros_like(graph.nodes["positions"]))
        crests = jnp.cos(jnp.asarray(PHASES, vectors.dtype))[jnp.minimum(copy_of_node, _COPIES - 1)]
        return jax.vmap(product)(amplitudes * crests[:, None])


_products = Jitted(wave_products)


def dynamical_matrices_of(
    potential: Potential,
    structure: Any,
    q_points: Sequence[Sequence[float]] | Float[np.ndarray, "k 3"],
    masses: Sequence[float] | None = None,
    dtype: str = "float64",
) -> Complex[np.ndarray, "k 3n 3n"]:
    """Compute what `Potential.dynamical_matrix` returns; its docstring describes the arguments."""
    graph = graph_of_one(potential, structure, dtype)
    (atoms,) = as_structures(structure)
    n_atoms, n_edges = len(atoms), len(graph.senders)
    q_points = _checked_q_points(q_points, atoms.pbc)
    masses = _checked_masses(atoms.get_masses() if masses is None else masses, n_atoms)
    # Rows of the inverse's transpose are the reciprocal vectors; the cell of a molecule may have none.
    wave_vectors = 2 * np.pi * q_points @ np.linalg.inv(atoms.cell.complete().array).T

    set_up_jax()
    shape = ShapeLadder().smallest(_COPIES * n_atoms + 1, max(_COPIES * n_edges, 1), _COPIES + 1)
    padded = pad_batch([graph] * _COPIES, shape)
    block, params = columns_together(_COPIES * n_edges), potential.cast(dtype)
    amplitudes = _one_atom_each(n_atoms, block, len(padded.nodes["species"]), dtype)
    found = np.empty((len(q_points), 3 * n_atoms, 3 * n_atoms), np.complex128)
    with precision_scope(dtype):
        scale = np.asarray(potential.metadata.scale, dtype)
        for q, wave_vector in enumerate(wave_vectors.astype(dtype)):
            changes = np.concatenate(
                [
                    np.asarray(_products(potential.model, params, padded, scale, wave_vector, part))
                    for part in amplitudes
                ]
            )[: 3 * n_atoms, : _COPIES * n_atoms]
            found[q] = _first_harmonic(changes.reshape(3 * n_atoms, _COPIES, 3 * n_atoms)).T
    roots = np.repeat(np.sqrt(masses), 3)
    return found / (roots[:, None] * roots)


def _one_atom_each(n_atoms: int, block: int, n_nodes: int, dtype: str) -> list[Float[np.ndarray, "b n 3"]]:
    """Amplitudes of one atom, the same in all copies, along one axis; in blocks."""
    parts = []
    for first in range(0, 3 * n_atoms, block):
        columns = np.arange(first, min(first + block, 3 * n_atoms))
        parts.append(sum(unit_displacements(columns + 3 * n_atoms * k, block, n_nodes, dtype) for k in range(_COPIES)))
    return parts


def _first_harmonic(values: Float[np.ndarray, "c k m"]) -> Complex[np.ndarray, "c m"]:
    """d of Re(d exp(i t)), at the phases along the second axis."""
    return np.einsum("k,ckm->cm", 2 / _COPIES * np.exp(-1j * np.array(PHASES)), values)


def _checked_q_points(q_points: Any, pbc: np.ndarray) -> Float[np.ndarray, "k 3"]:
    """
    Raises:
        MlipError: something else than wave vectors, or one along a direction without a period.
    """
    fault = None
    try:
        found = np.asarray(q_points, dtype=np.float64)
    except (TypeError, ValueError):
        fault = "are no numbers"
    else:
        if found.ndim != 2 or found.shape[1] != 3:
            fault = f"have the shape {found.shape}"
        elif not np.isfinite(found).all():
            fault = "are not all finite"
    if fault is not None:
        raise MlipError(fault, where="q_points", fix="an array (n_q, 3), in units of the reciprocal vectors")
    if found[:, ~pbc].any():
        raise MlipError(
            "run along a direction in which the structure is not periodic", where="q_points", fix="0 along it"
        )
    return found


def _checked_masses(masses: Any, n_atoms: int) -> Float[np.ndarray, " n"]:
    """
    Raises:
        MlipError: not one positive mass an atom.
    """
    try:
        found = np.asarray(masses, dtype=np.float64)
    except (TypeError, ValueError):
        raise MlipError("are no numbers", where="masses", fix=f"{n_atoms} numbers > 0, u") from None
    if found.shape != (n_atoms,) or not (np.isfinite(found) & (found > 0)).all():
        raise MlipError(f"are {found.tolist()}", where="masses", fix=f"{n_atoms} numbers > 0, u")
    return found
