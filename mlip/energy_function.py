"""The energy of one structure as a pure JAX function, for `jit`, `grad`, `vmap` and programs such as jax-md.

The function closes over the constants: elements, periodicity, and the list of pairs within cutoff + skin. Pairs in the
skin contribute nothing, so energies and forces are exact as long as the list holds every pair within the cutoff.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from ase import Atoms
from flax import linen as nn
from jaxtyping import Array, Float

from mlip.errors import MlipError
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.radius_graph import crystal_graph
from mlip.graph.skin import is_list_complete
from mlip.runtime import products_in, set_up_jax

_SPARE_EDGES = 1.25
"""Room for edges relative to the first list, so that later lists have the same shape and need no compilation."""


@dataclass(frozen=True, eq=False)
class EnergyFunction:
    """Pure function `energy(positions, strain=None, params=None, neighbor=None)` of one structure, eV.

    The forces are minus its gradient with respect to positions, eV/A; the stress is its gradient with respect to strain
    divided by the volume, eV/A^3. It computes in the precision of the positions; float64 needs
    `jax.config.update("jax_enable_x64", True)`. Create it with `Potential.energy_fn`.
    """

    model: nn.Module
    params: Any
    """Parameters used if a call passes none; to train, pass `params` and differentiate with respect to them."""
    scale: float
    """Energy per unit of the model's output, eV."""
    shift: float
    """Energy added per atom, eV."""
    reference_energy: float
    """Sum of the atoms' reference energies E0, eV."""
    atoms: Atoms
    """Elements, cell and periodicity, and the positions for which the first list was built."""
    cutoff: float
    """Cutoff radius, A."""
    skin: float
    """Distance beyond the cutoff to which the list reaches, A."""
    list: jraph.GraphsTuple
    """Pairs within cutoff + skin, padded."""

    @classmethod
    def of(
        cls,
        model: nn.Module,
        params: Any,
        scale: float,
        shift: float,
        reference_energy: float,
        atoms: Atoms,
        cutoff: float,
        skin: float,
    ) -> "EnergyFunction":
        """Energy function of a structure.

        Raises:
            MlipError: the skin is negative, or no graph can be built from the structure.
        """
        if not skin >= 0:
            raise MlipError(f"is {skin}", where="skin", fix="a length >= 0, A")
        set_up_jax()
        atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        graph = crystal_graph(atoms, cutoff + skin, dtype=np.float64)
        room = max(1, round(_SPARE_EDGES * len(graph.senders)))
        first = _padded(graph, atoms, room)
        return cls(model, params, scale, shift, reference_energy, atoms, cutoff, skin, first)

    def __call__(
        self,
        positions: Float[Array, "n 3"],
        strain: Float[Array, "3 3"] | None = None,
        params: Any = None,
        neighbor: jraph.GraphsTuple | None = None,
        *,
        perturbation: Float[Array, "*d"] | None = None,
        box: Float[Array, "3 3"] | None = None,
        **others: Any,
    ) -> Float[Array, ""]:
        """Energy, eV, reference energies included.

        Args:
            positions: positions before the strain, A; atoms may lie outside the cell.
            strain: transforms every row vector v of the atoms and the cell to v (1 + strain); zero by default.
            params: network parameters to use instead of the potential's.
            neighbor: a list from `neighbor_list` to use instead of the first.
            perturbation: jax-md's argument for a strain, a number or a matrix: every column vector v becomes
                perturbation v.
            box: jax-md's argument for the cell, with the cell vectors as columns, A; must equal the structure's cell.
            others: keywords that jax-md passes to every energy function (`t`, ...); not used.

        Raises:
            MlipError: the box differs from the structure's cell, or is a traced value.
        """
        if box is not None:
            self._check_box(box)
        graph = self.list if neighbor is None else neighbor
        positions = jnp.asarray(positions)
        dtype = positions.dtype
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.params if params is None else params)
        with products_in("highest"):
            vectors = self._vectors(graph, positions)
            if strain is not None:
                vectors = vectors @ (jnp.eye(3, dtype=dtype) + jnp.asarray(strain, dtype))
            if perturbation is not None:
                change = jnp.asarray(perturbation, dtype)
                vectors = vectors @ change.T if change.ndim == 2 else vectors * change
            is_atom = graph.nodes["species"] > 0
            vectors = jnp.where(is_atom[graph.receivers][:, None], vectors, jnp.array([2 * self.cutoff, 0, 0], dtype))
            energies = self.model.apply({"params": params}, graph._replace(edges={"vectors": vectors}))
            energies = jnp.where(is_atom, self.scale * energies + self.shift, 0)
        return jnp.asarray(jnp.sum(energies) + self.reference_energy, dtype)

    def _check_box(self, box: Any) -> None:
        is_known = not isinstance(box, jax.core.Tracer)
        if not (is_known and np.shape(box) == (3, 3) and np.allclose(np.asarray(box).T, self.atoms.cell, atol=1e-4)):
            raise MlipError(
                "is not the cell of the structure, which this energy function has once and for all",
                where="box",
                fix="positions in A, the cell's vectors as columns, and no ensemble that changes the cell",
            )

    def _vectors(self, graph: jraph.GraphsTuple, positions: Float[Array, "n 3"]) -> Float[Array, "e 3"]:
        """Vectors from center to neighbor before any strain, A; zero for padding."""
        padded = jnp.concatenate([positions, jnp.zeros((1, 3), positions.dtype)])
        cell = jnp.asarray(self.atoms.cell.array, positions.dtype)
        shifts = jnp.asarray(graph.edges["shifts"], positions.dtype) @ cell
        return padded[graph.senders] + shifts - padded[graph.receivers]

    def neighbor_list(self, positions: Float[np.ndarray, "n 3"]) -> jraph.GraphsTuple:
        """New neighbor list for moved atoms, built on the host in arrays of the first list's shapes.

        Raises:
            MlipError: there are more pairs than the arrays can hold, or atoms coincide.
        """
        moved = self._moved(positions)
        graph = crystal_graph(moved, self.cutoff + self.skin, dtype=np.float64)
        room = len(self.list.senders)
        if len(graph.senders) > room:
            raise MlipError(
                f"{len(graph.senders)} pairs, and the energy function has room for {room}",
                where=moved.get_chemical_formula(),
                fix="make a new one of the denser structure: potential.energy_fn(atoms)",
            )
        return _padded(graph, moved, room)

    def is_list_complete(
        self,
        positions: Float[np.ndarray, "n 3"],
        strain: Float[np.ndarray, "3 3"] | None = None,
        neighbor: jraph.GraphsTuple | None = None,
    ) -> bool:
        """Whether a list still holds every pair within the cutoff. If not, build a new one with `neighbor_list`, or,
        for a strained structure, a new function.

        Args:
            neighbor: a list from `neighbor_list`; by default the first one.
        """
        deformation = np.eye(3) + (0 if strain is None else np.asarray(strain, np.float64))
        cell = self.atoms.cell.array
        nodes = (self.list if neighbor is None else neighbor).nodes
        return is_list_complete(
            np.asarray(nodes["positions"], np.float64)[:-1],
            cell,
            np.asarray(positions, np.float64) @ deformation,
            cell @ deformation,
            self.atoms.pbc,
            self.cutoff,
            self.skin,
        )

    def _moved(self, positions: Float[np.ndarray, "n 3"]) -> Atoms:
        return Atoms(self.atoms.numbers, np.asarray(positions, np.float64), cell=self.atoms.cell, pbc=self.atoms.pbc)


def _padded(graph: jraph.GraphsTuple, atoms: Atoms, room: int) -> jraph.GraphsTuple:
    """The list padded to `room` edges, with the positions for which it was built."""
    padded = pad_batch([graph], Shape(len(atoms) + 1, room, 2))
    return padded._replace(nodes=padded.nodes | {"positions": np.vstack([atoms.positions, np.zeros(3)])})
