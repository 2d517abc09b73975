"""The ASE calculator: any potential of ours in people's own scripts, without their meeting JAX.

Neighbour lists carry a skin and are rebuilt when the motion of atoms or cell asks for it; only pairs within the
cutoff are evaluated. Array sizes come from a geometric series, so that a whole relaxation compiles once or twice.
"""

import os

import jax
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from jraph import GraphsTuple

from mlip.data.quality import COINCIDENT
from mlip.graph.batching import Shape, ShapeLadder, pad_batch
from mlip.graph.radius_graph import crystal_graph
from mlip.graph.skin import is_list_complete
from mlip.potential import Potential, evaluate_batch, open_potential
from mlip.runtime import precision_scope, set_up_jax


class MLIPCalculator(Calculator):
    """energy, free_energy, energies, forces (eV, eV/A) and stress (eV/A^3) of a `Potential`.

    Any periodicity, cell handedness and number of atoms. Where the cell has no volume there is no stress, and
    asking for it raises ASE's PropertyNotImplementedError.

    Args:
        potential: a `Potential`, or the path of its file.
        dtype: "float32", or "float64" for phonons and very tight relaxations.
        skin: neighbours are kept up to cutoff + skin, A; 0 rebuilds the list at every step.
        head: which one of a potential with several; there is no default then.

    Raises:
        MlipError: no such file or head.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 (ASE's)

    def __init__(
        self,
        potential: Potential | str | os.PathLike,
        dtype: str = "float32",
        skin: float = 0.5,
        head: str | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if skin < 0:
            raise ValueError(f"skin must not be negative, is {skin}")
        precision_scope(dtype)  # an unknown dtype fails here, not at the first step
        self.potential = open_potential(potential, head)
        self.dtype = dtype
        self.skin = skin
        self.n_calls = 0
        """Evaluations of the model so far."""
        self.n_rebuilds = 0
        """Neighbour lists made so far."""
        self._shapes: set[Shape] = set()
        self._forget_device_state()

    @property
    def n_compiles(self) -> int:
        """Programs that this calculator has needed: one for each array shape it met."""
        return len(self._shapes)

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        set_up_jax()
        graph = self._padded_graph()
        potential = self.potential
        with precision_scope(self.dtype):
            if self._params is None:
                self._params = potential.cast(self.dtype)
            evaluation = jax.device_get(
                evaluate_batch(
                    potential.model,
                    self._params,
                    graph,
                    potential.metadata.scale,
                    potential.metadata.shift,
                )
            )
        self.n_calls += 1
        n_atoms = len(self.atoms)
        energies = evaluation.node_energies[:n_atoms].astype(np.float64)
        energies += potential.reference_energies_by_z[self.atoms.numbers]
        energy = float(energies.sum())
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": energies,
            "forces": evaluation.forces[:n_atoms].astype(np.float64),
        }
        if abs(self.atoms.cell.volume) > 0:
            self.results["stress"] = evaluation.stress[0].astype(np.float64)

    def _padded_graph(self) -> GraphsTuple:
        """The padded graph of the present atoms: a new neighbour list where that is due, then the pairs of the list
        that are within the cutoff now. Counting those out costs far less than evaluating the skin."""
        atoms = self.atoms
        if not self._is_list_usable(atoms):
            self.potential.check_elements(atoms.numbers, where=atoms.get_chemical_formula())
            self._list = crystal_graph(atoms, self.potential.cutoff + self.skin, dtype=np.float64)
            self._list_atoms = atoms.copy()
            self.n_rebuilds += 1
        listed, cell = self._list, atoms.cell.array
        vectors = atoms.positions[listed.senders] - atoms.positions[listed.receivers] + listed.edges["shifts"] @ cell
        squares = np.einsum("ij,ij->i", vectors, vectors)
        if squares.min(initial=np.inf) < COINCIDENT**2:
            crystal_graph(atoms, self.potential.cutoff)  # says which atoms they are
        near = squares < self.potential.cutoff**2
        dtype = np.dtype(self.dtype)
        graph = listed._replace(
            nodes=listed.nodes | {"positions": atoms.positions.astype(dtype)},
            edges={"shifts": listed.edges["shifts"][near]},
            receivers=listed.receivers[near],
            senders=listed.senders[near],
            globals=listed.globals | {"cell": cell.astype(dtype)[None]},
        )
        return pad_batch([graph], self._fitting_shape(len(atoms), len(graph.senders)))

    def _is_list_usable(self, atoms: Atoms) -> bool:
        old = self._list_atoms
        return (
            old is not None
            and np.array_equal(old.numbers, atoms.numbers)
            and np.array_equal(old.pbc, atoms.pbc)
            and is_list_complete(
                old.positions,
                old.cell.array,
                atoms.positions,
                atoms.cell.array,
                atoms.pbc,
                self.potential.cutoff,
                self.skin,
            )
        )

    def _fitting_shape(self, n_nodes: int, n_edges: int) -> Shape:
        """A shape already met, if one fits (a list that shrinks a little compiles nothing), else a new one."""
        for shape in self._shapes:
            if n_nodes < shape.n_node <= 2 * n_nodes + 8 and n_edges <= shape.n_edge <= 2 * n_edges + 8:
                return shape
        shape = ShapeLadder(growth=1.1).smallest(n_nodes + 1, n_edges, 2)  # finer than for batches: used so often
        self._shapes.add(shape)
        return shape

    def _forget_device_state(self) -> None:
        self._list = self._list_atoms = self._params = None

    def __getstate__(self) -> dict:
        return self.__dict__ | dict.fromkeys(("_list", "_list_atoms", "_params"))
