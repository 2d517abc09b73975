"""The ASE calculator of an mlip potential. Its users need not know JAX.

Neighbor lists carry a skin and are rebuilt when the motion of the atoms or the cell requires it; only pairs within the
cutoff are evaluated. All calculators of a process share the compiled programs and their array sizes (`mlip.programs`):
a relaxation compiles once or twice, a thousand structures with a calculator each a handful of times.
"""

import os
from difflib import get_close_matches
from typing import Any

import jax
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes, all_properties
from jraph import GraphsTuple

from mlip import __version__
from mlip.data.quality import COINCIDENT
from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.near import moved_near, whole_cells
from mlip.graph.radius_graph import crystal_graph
from mlip.graph.skin import is_list_complete
from mlip.potential import Potential, open_potential
from mlip.runtime import precision_scope, set_up_jax

_KEYWORDS = ("potential", "dtype", "skin", "head")
_KEYWORDS_OF_ASE = ("atoms", "directory", "ignore_bad_restart_file", "label", "restart")
_NAMES_ELSEWHERE = {
    "default_dtype": "dtype",
    "model": "potential",
    "model_path": "potential",
    "model_paths": "potential",
}
"""Keywords of other calculators, with the keyword that has the same meaning here."""


def _unknown(keyword: str) -> MlipError:
    """Error for an unknown keyword, with a suggested correction."""
    if keyword == "device":
        fix = "JAX takes the best device there is; JAX_PLATFORMS=cpu or CUDA_VISIBLE_DEVICES chooses another"
    elif near := _NAMES_ELSEWHERE.get(keyword) or next(iter(get_close_matches(keyword, _KEYWORDS, 1, 0.5)), None):
        fix = f"did you mean {near}?"
    else:
        fix = f"there are {', '.join(_KEYWORDS)}"
    return MlipError(f"unknown keyword {keyword!r}", where="MLIPCalculator", fix=fix)


def spread_names(potential: Potential) -> list[str]:
    """Names of the standard deviations that a potential predicts."""
    if potential.uncertainty is None:
        return []
    return (
        ["energy_std"] if potential.uncertainty.last_layer is not None else ["energy_std", "forces_std", "stress_std"]
    )


class MLIPCalculator(Calculator):
    """energy, free_energy, energies, forces (eV, eV/A) and stress (eV/A^3) of a `Potential`.

    Any periodicity, cell handedness and number of atoms. If the cell has no volume, stress is undefined, and requesting
    it raises ASE's PropertyNotImplementedError.

    A potential with an uncertainty also writes `energy_std` (of the total energy, eV) to `results`; an ensemble adds
    `forces_std` and `stress_std`. For a calibrated potential, `do_not_trust` says whether a structure needs DFT.

    Args:
        potential: a `Potential`, or the path of its file, or a name that `mlip models` lists; by default the one set
            with `mlip models default`.
        dtype: "float32", or "float64" for phonons and very tight relaxations.
        skin: the neighbor list reaches to cutoff + skin, A; 0 rebuilds it at every step.
        head: name of the head; required for a potential that has several.
        others: ASE's own arguments: `atoms`, `label`, `directory`.

    Raises:
        MlipError: no such file or head, an unknown keyword.
    """

    name = "mlip"

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 (ASE's)

    def __init__(
        self,
        potential: Potential | str | os.PathLike | None = None,
        dtype: str = "float32",
        skin: float = 0.5,
        head: str | None = None,
        **others,
    ):
        for keyword in others:
            if keyword not in _KEYWORDS_OF_ASE:
                raise _unknown(keyword)
        super().__init__(**others)
        if skin < 0:
            raise ValueError(f"skin must not be negative, is {skin}")
        precision_scope(dtype)  # raises for an unknown dtype now instead of at the first step
        self.potential = open_potential(potential, head)
        self._file = os.fspath(potential) if isinstance(potential, str | os.PathLike) else None
        self.dtype = dtype
        self.skin = skin
        self.n_calls = 0
        """Number of model evaluations so far."""
        self.n_rebuilds = 0
        """Number of neighbor lists built so far."""
        self.do_not_trust: bool | None = None
        """Whether half the 90 % interval of the last energy per atom exceeds the threshold in the potential's file;
        None for an uncalibrated potential."""
        if self.potential.uncertainty is not None:
            names = spread_names(self.potential)
            self.implemented_properties = [*self.implemented_properties, *names]
            # ASE writes to files, and accepts in single-point calculators, only the properties in `all_properties`.
            all_properties.extend(name for name in names if name not in all_properties)
        self._shapes: set[Shape] = set()
        self._forget_device_state()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.potential!r}, dtype: {self.dtype}, skin: {self.skin:g} A)"

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Description of the calculator for ASE's databases: which potential it uses and how it evaluates it."""
        metadata = self.potential.metadata
        described = {
            "potential": self.potential.fingerprint,
            "file": self._file,
            "model": self.potential.config.model,
            "functional": metadata.functional,
            "head": metadata.provenance.get("head"),
            "mlip": __version__,
            "dtype": self.dtype,
            "skin": self.skin,
        }
        return {key: value for key, value in described.items() if value is not None}

    def set(self, **changes: Any) -> dict[str, Any]:
        """Reject every change: a calculator's settings are fixed.

        Raises:
            MlipError: whenever a keyword is given.
        """
        for keyword in changes:
            if keyword in _KEYWORDS:
                raise MlipError(f"{keyword} cannot be changed", where="MLIPCalculator.set", fix="make a new calculator")
            raise _unknown(keyword)
        return {}

    @property
    def n_compiles(self) -> int:
        """Number of programs that this calculator has needed, one per array shape. Other users of this process may have
        compiled some of them."""
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
                potential.evaluation(
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
        told = potential.uncertainty_of(self.atoms, evaluation, 0, slice(0, n_atoms))
        self.do_not_trust = told.pop("do_not_trust", None)
        self.results |= {name: value for name, value in told.items() if np.isfinite(value).all()}

    def _padded_graph(self) -> GraphsTuple:
        """Padded graph of the current atoms, with the listed pairs that are within the cutoff now; rebuilds the
        neighbor list if necessary. Discarding the pairs in the skin costs far less than evaluating them."""
        atoms = self.atoms
        if not self._is_list_usable(atoms):
            self.potential.check_elements(atoms.numbers, where=atoms.get_chemical_formula())
            self._cells = whole_cells(atoms.positions, atoms.cell.array, atoms.pbc)
            near = moved_near(atoms.positions, atoms.cell.array, self._cells)
            frame = Frame(atoms.numbers, near, atoms.cell.array, atoms.pbc)
            self._list = crystal_graph(frame, self.potential.cutoff + self.skin, dtype=np.float64)
            self._list_atoms = atoms.copy()
            self.n_rebuilds += 1
        listed, cell = self._list, atoms.cell.array
        positions = moved_near(atoms.positions, cell, self._cells)
        vectors = positions[listed.senders] - positions[listed.receivers] + listed.edges["shifts"] @ cell
        squares = np.einsum("ij,ij->i", vectors, vectors)
        if squares.min(initial=np.inf) < COINCIDENT**2:
            crystal_graph(atoms, self.potential.cutoff)  # raises an error that names the atoms
        near = squares < self.potential.cutoff**2
        dtype = np.dtype(self.dtype)
        graph = listed._replace(
            nodes=listed.nodes | {"positions": positions.astype(dtype)},
            edges={"shifts": listed.edges["shifts"][near]},
            receivers=listed.receivers[near],
            senders=listed.senders[near],
            globals=listed.globals | {"cell": cell.astype(dtype)[None]},
        )
        shapes = self.potential.evaluation.shapes(self.potential.model, self.dtype)
        shape = shapes.choose(Shape(len(atoms) + 1, len(graph.senders), 2))
        self._shapes.add(shape)
        return pad_batch([graph], shape)

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

    def _forget_device_state(self) -> None:
        self._list = self._list_atoms = self._cells = self._params = None

    def __getstate__(self) -> dict:
        return self.__dict__ | dict.fromkeys(("_list", "_list_atoms", "_cells", "_params"))
