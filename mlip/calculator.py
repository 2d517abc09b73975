"""The ASE calculator: any potential of ours in people's own scripts, without their meeting JAX.

Neighbor lists carry a skin and are rebuilt when the motion of atoms or cell asks for it; only pairs within the
cutoff are evaluated. Programs and their array sizes are the process's, not the calculator's (`mlip.programs`): a
relaxation compiles once or twice, a thousand structures with a calculator each a handful of times.
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
"""Names of the same things in other calculators."""


def _unknown(keyword: str) -> MlipError:
    """The error of a keyword that means nothing here."""
    if keyword == "device":
        fix = "JAX takes the best device there is; JAX_PLATFORMS=cpu or CUDA_VISIBLE_DEVICES chooses another"
    elif near := _NAMES_ELSEWHERE.get(keyword) or next(iter(get_close_matches(keyword, _KEYWORDS, 1, 0.5)), None):
        fix = f"did you mean {near}?"
    else:
        fix = f"there are {', '.join(_KEYWORDS)}"
    return MlipError(f"unknown keyword {keyword!r}", where="MLIPCalculator", fix=fix)


def spread_names(potential: Potential) -> list[str]:
    """Names of the standard deviations that a potential gives."""
    if potential.uncertainty is None:
        return []
    return (
        ["energy_std"] if potential.uncertainty.last_layer is not None else ["energy_std", "forces_std", "stress_std"]
    )


class MLIPCalculator(Calculator):
    """energy, free_energy, energies, forces (eV, eV/A) and stress (eV/A^3) of a `Potential`.

    Any periodicity, cell handedness and number of atoms. Where the cell has no volume there is no stress, and
    asking for it raises ASE's PropertyNotImplementedError.

    A potential that knows how sure it is also gives `energy_std` (of the total energy, eV), an ensemble `forces_std`
    and `stress_std`, all in `results`; a calibrated one tells by `do_not_trust` whether to leave a structure to DFT.

    Args:
        potential: a `Potential`, or the path of its file, or a name that `mlip models` lists; without one the declared
            default, `mlip models default`.
        dtype: "float32", or "float64" for phonons and very tight relaxations.
        skin: neighbors are kept up to cutoff + skin, A; 0 rebuilds the list at every step.
        head: which head of a potential that has several; it has no default.
        others: ASE's own: `atoms`, `label`, `directory`.

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
        precision_scope(dtype)  # an unknown dtype fails here, not at the first step
        self.potential = open_potential(potential, head)
        self._file = os.fspath(potential) if isinstance(potential, str | os.PathLike) else None
        self.dtype = dtype
        self.skin = skin
        self.n_calls = 0
        """Evaluations of the model so far."""
        self.n_rebuilds = 0
        """Neighbor lists made so far."""
        self.do_not_trust: bool | None = None
        """Whether half the 90 % interval of the last energy per atom is wider than the threshold in the potential's
        file; None of a potential that was not calibrated."""
        if self.potential.uncertainty is not None:
            names = spread_names(self.potential)
            self.implemented_properties = [*self.implemented_properties, *names]
            # ASE keeps in files, and lets single-point calculators have, the properties that it has names for.
            all_properties.extend(name for name in names if name not in all_properties)
        self._shapes: set[Shape] = set()
        self._forget_device_state()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.potential!r}, dtype: {self.dtype}, skin: {self.skin:g} A)"

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Facts that ASE's databases keep of a calculator: which potential this is, and how it is evaluated."""
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
        """
        Raises:
            MlipError: a calculator stays what it is.
        """
        for keyword in changes:
            if keyword in _KEYWORDS:
                raise MlipError(f"{keyword} cannot be changed", where="MLIPCalculator.set", fix="make a new calculator")
            raise _unknown(keyword)
        return {}

    @property
    def n_compiles(self) -> int:
        """Programs that this calculator has needed: one for each array shape it met. The process may have had them."""
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
        """The padded graph of the present atoms: a new neighbor list where that is due, then the pairs of the list
        that are within the cutoff now. Counting those out costs far less than evaluating the skin."""
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
            crystal_graph(atoms, self.potential.cutoff)  # says which atoms they are
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
