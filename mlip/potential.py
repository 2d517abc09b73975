"""A potential: a model with parameters and metadata that predicts energies, forces and stress; reads and writes its
file."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Complex, Float
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mlip import __version__
from mlip.data.records import Frame
from mlip.data.structures import as_structures
from mlip.energy_function import EnergyFunction
from mlip.energy_gradient import Evaluation, evaluate_batch
from mlip.errors import MlipError
from mlip.foreign import ForeignPotential, foreign_name
from mlip.functionals import join_functionals
from mlip.hardware import hardware
from mlip.model_file import FORMAT_VERSION
from mlip.models import heads_of, select_head
from mlip.network import TrainedNetwork
from mlip.pretrained import default_potential
from mlip.programs import Jitted
from mlip.uncertainty.calibration import Uncertainty
from mlip.uncertainty.dimensionality import dimensionality_of
from mlip.uncertainty.spread import evaluate_ensemble, evaluate_last_layer

_UNCERTAINTY = "uncertainty"
"""Key of the uncertainty in a potential's file, in the header and as prefix of its tensors."""


class Head(BaseModel):
    """Reference energies, scale and shift that turn a model's output into energies of one level of theory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference_energies: dict[str, float]
    """Reference energy E0 of each element that the potential knows, eV; total energies include them."""
    scale: float = 1.0
    """Energy per unit of the model's output, eV."""
    shift: float = 0.0
    """Energy added per atom, eV."""
    functional: str = "unknown"

    @field_validator("reference_energies")
    @classmethod
    def _keys_are_elements(cls, energies: dict[str, float]) -> dict[str, float]:
        if strangers := sorted(set(energies) - set(chemical_symbols[1:])):
            raise ValueError(f"no elements: {', '.join(strangers)}")
        return energies


class PotentialMetadata(Head):
    """Metadata of a potential, stored as JSON in the header of its file."""

    heads: dict[str, Head] = Field(default_factory=dict)
    """The heads of a potential with several. The potential's own `reference_energies` are then empty, and its scale and
    shift unused."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Origin of parameters and data: recipe, store, source checkpoint, citations."""
    precision: str = "float32"
    """Precision of the matrix products in training, as set by the recipe: float32, float64, tf32 or bf16."""
    mlip_version: str = __version__

    @classmethod
    def of_heads(cls, heads: dict[str, Head], **rest: Any) -> "PotentialMetadata":
        """Metadata of a potential with one head or several."""
        if len(heads) == 1:
            return cls(**next(iter(heads.values())).model_dump(), **rest)
        functional = join_functionals(head.functional for head in heads.values())
        return cls(reference_energies={}, functional=functional, heads=heads, **rest)


@dataclass(frozen=True, eq=False, repr=False)
class Potential(TrainedNetwork):
    """A network that predicts energies, with its parameters and metadata. Immutable."""

    metadata: PotentialMetadata
    uncertainty: Uncertainty | None = None
    """Source of the error bars; None for a single network without calibration."""

    noun = "potential"
    metadata_class = PotentialMetadata

    def __post_init__(self):
        super().__post_init__()
        if self.uncertainty is None and self.config.model == "ensemble":
            object.__setattr__(self, "uncertainty", Uncertainty("ensemble"))
        described = tuple(self.metadata.heads) if len(self.heads) > 1 else self.heads
        if set(described) != set(self.heads):
            raise MlipError(f"the network has the heads {self.heads}, the metadata {described}")

    @property
    def evaluation(self) -> Jitted:
        """Compiled function that makes the predictions, including the uncertainty if there is one."""
        if self.uncertainty is None:
            return evaluate_batch
        return evaluate_last_layer if self.uncertainty.last_layer is not None else evaluate_ensemble

    def _facts(self) -> dict[str, str]:
        heads = {"heads": ", ".join(self.heads)} if len(self.heads) > 1 else {}
        provenance = self.metadata.provenance
        published = {key: str(provenance[key]) for key in ("name", "license") if key in provenance}
        sure = {} if self.uncertainty is None else {"uncertainty": self.uncertainty.kind}
        return {"cutoff": f"{self.cutoff:g} A", **heads, **sure, **published}

    def _scales(self) -> dict[str, Any]:
        return {"own": self.metadata.model_dump(include=set(Head.model_fields) | {"heads"})}

    def _batch_edges(self) -> int:
        return hardware().prediction_edges

    def _constants(self) -> tuple[float, float]:
        return self.metadata.scale, self.metadata.shift

    @property
    def cutoff(self) -> float:
        """Cutoff radius, the length of the longest edge, A."""
        return self.config.inputs.cutoff

    @property
    def functional(self) -> str:
        """Functional (level of theory) of the energies; several are joined by " | "."""
        return self.metadata.functional

    @property
    def elements(self) -> list[str]:
        """Symbols of the known elements, sorted by atomic number."""
        heads = (self.metadata, *self.metadata.heads.values())
        return sorted(set().union(*(head.reference_energies for head in heads)), key=atomic_numbers.__getitem__)

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads: levels of theory that share one network."""
        return heads_of(self.config)

    def of_head(self, head: str | None) -> "Potential":
        """The potential with a single head; None selects the only head.

        Raises:
            MlipError: the head does not exist, or None was given and there are several; lists the heads.
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
        """Reference energies E0 by atomic number, eV; NaN for unknown elements.

        Raises:
            MlipError: the potential has several heads; select one with `of_head`.
        """
        return energies_by_z(self.of_head(None).metadata.reference_energies)

    def predict(
        self, structures: Atoms | Frame | Iterable[Any], dtype: str = "float32", batch_edges: int | None = None
    ) -> list[dict[str, Any]]:
        """Energies, forces and stresses of structures, in the order given.

        Args:
            structures: one or an iterable of ASE Atoms, pymatgen Structures or Frames, with any periodicity; not
                modified.
            dtype: "float32" or "float64".
            batch_edges: approximate number of edges evaluated at once; by default 8,192 on a CPU and 65,536 elsewhere.

        Returns:
            A dict for each structure: `energy` eV, `forces` (n, 3) eV/A, `stress` (6,) eV/A^3 (NaN if the cell has no
            volume), `energies` (n,) eV per atom; for a potential with an uncertainty also the items of
            `uncertainty_of`.

        Raises:
            MlipError: an element is unknown, atoms coincide, or an item is not a structure (named by its index); or the
                potential has several heads and none was selected.
        """
        return self._predictions(structures, dtype, batch_edges)

    def hessian(
        self,
        structure: Atoms | Frame | Any,
        dtype: str = "float64",
        block: int | None = None,
        atoms: Sequence[int] | None = None,
    ) -> Float[np.ndarray, "k n 3 3"]:
        """Exact second derivatives of the energy with respect to the atoms' positions, eV/A^2.

        An atom moves together with its periodic images. [i, j, a, b] is d2E / dx_ia dx_jb, as phonopy orders the force
        constants of a supercell.

        Args:
            structure: ASE Atoms, a pymatgen Structure or a Frame of any periodicity; not modified.
            block: columns that go through the network at once; by default as memory allows.
            atoms: places of the atoms whose rows are wanted, k of them; by default all. Those of one cell are enough
                for the phonons of a supercell.

        Raises:
            MlipError: as `predict`; more than one structure; `atoms` that are not there.
        """
        from mlip.curvature import hessian_of  # which stands above this file

        return hessian_of(self, structure, dtype, block, atoms)

    def dynamical_matrix(
        self,
        structure: Atoms | Frame | Any,
        q_points: Sequence[Sequence[float]] | Float[np.ndarray, "k 3"],
        masses: Sequence[float] | None = None,
        dtype: str = "float64",
    ) -> Complex[np.ndarray, "k 3n 3n"]:
        """Exact dynamical matrices of a crystal at any wave vectors, eV/(A^2 u), from one unit cell.

        D(q)[3 i + a, 3 j + b] = sum over cells R of d2E / dx_0ia dx_Rjb exp(i q.(r_j + R - r_i)) / sqrt(m_i m_j), the
        phases and the units of phonopy's. Frequencies in THz are 15.633302 times the roots of the eigenvalues. There is
        no correction for the fields of polar crystals' long waves.

        Args:
            structure: ASE Atoms, a pymatgen Structure or a Frame of any periodicity; not modified.
            q_points: (n_q, 3) wave vectors in units of the reciprocal vectors, 0 along directions without a period.
            masses: u; by default those of the structure, which are the elements' where it has none of its own.

        Raises:
            MlipError: as `predict`; more than one structure; wave vectors or masses that make no sense.
        """
        from mlip.dynamical_matrix import dynamical_matrices_of  # which stands above this file

        return dynamical_matrices_of(self, structure, q_points, masses, dtype)

    def try_predict(
        self, structures: Atoms | Frame | Iterable[Any], dtype: str = "float32", batch_edges: int | None = None
    ) -> list[dict[str, Any] | MlipError]:
        self.of_head(None)
        return super().try_predict(structures, dtype, batch_edges)

    def _result(self, structure: Atoms, output: Evaluation, place: int, nodes: slice) -> dict[str, Any]:
        """Prediction for one structure of a batch; adds the reference energies in float64."""
        energies = output.node_energies[nodes].astype(np.float64)
        energies += self.reference_energies_by_z[structure.numbers]
        stress = output.stress[place].astype(np.float64)
        if abs(np.linalg.det(np.asarray(structure.cell))) == 0:
            stress = np.full(6, np.nan)
        return {
            "energy": float(energies.sum()),
            "forces": output.forces[nodes].astype(np.float64),
            "stress": stress,
            "energies": energies,
            **self.uncertainty_of(structure, output, place, nodes),
        }

    def uncertainty_of(self, structure: Atoms, output: Evaluation, place: int, nodes: slice) -> dict[str, Any]:
        """Uncertainty of the prediction for one structure of a batch; empty if the potential has no uncertainty.

        Returns:
            `energy_std`, the standard deviation of the total energy, eV. An ensemble adds `forces_std` (n, 3) eV/A and
            `stress_std` (6,) eV/A^3 (NaN if the cell has no volume), the uncalibrated spread of its members. A
            calibrated potential adds `do_not_trust`, whether half the 90 % interval of the energy per atom exceeds the
            threshold in its file.
        """
        if (uncertainty := self.uncertainty) is None:
            return {}
        spread, n_atoms = output.spread, nodes.stop - nodes.start
        energy_std = uncertainty.energy_std(spread, place, n_atoms, dimensionality_of(structure))
        told: dict[str, Any] = {"energy_std": energy_std}
        if spread.forces is not None:
            has_volume = abs(np.linalg.det(np.asarray(structure.cell))) > 0
            told["forces_std"] = spread.forces[nodes].astype(np.float64)
            told["stress_std"] = spread.stress[place].astype(np.float64) if has_volume else np.full(6, np.nan)
        is_doubtful = uncertainty.is_doubtful(energy_std, n_atoms)
        return told if is_doubtful is None else told | {"do_not_trust": is_doubtful}

    def energy_fn(self, structure: Any, skin: float = 0.5) -> EnergyFunction:
        """The energy of one structure as a pure JAX function of positions and strain, for `jit`, `grad` and `vmap`.

        Args:
            structure: ASE Atoms, a pymatgen Structure or a Frame that gives elements, cell and periodicity; not
                modified.
            skin: the function is exact as long as no atom has moved by more than half this length, A.

        Returns:
            `energy(positions, strain=None, params=None, neighbor=None)`, eV; see `EnergyFunction`.

        Raises:
            MlipError: an element is unknown, atoms coincide, or there is not exactly one structure; or the potential
                has several heads and none was selected.
        """
        structures = as_structures(structure)
        if len(structures) != 1:
            raise MlipError(f"{len(structures)} structures", where="energy_fn", fix="one; jax.vmap goes over positions")
        (atoms,) = structures
        self.check_elements(atoms.numbers, where=atoms.get_chemical_formula())
        reference = float(self.reference_energies_by_z[atoms.numbers].sum())
        return EnergyFunction.of(self.model, self.params, *self._constants(), reference, atoms, self.cutoff, skin)

    def with_metadata(self, **changes: Any) -> "Potential":
        """Copy of the potential with the given metadata fields changed."""
        return replace(self, metadata=self.metadata.model_copy(update=changes))

    @classmethod
    def load(cls, path: str | os.PathLike | None = None, head: str | None = None) -> "Potential":
        """Read a potential from its file.

        Args:
            path: the file, or a name that `mlip models` lists; by default the potential set with `mlip models default`.
            head: name of one head of a potential that has several; None keeps all of them, for `of_head`.

        Raises:
            MlipError: the file or head does not exist, or the file is not a potential of mlip, was written by a newer
                version, or is damaged.
        """
        potential = cls._load(default_potential() if path is None else path)
        return potential if head is None else potential.of_head(head)

    def _further_contents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.uncertainty is None or self.uncertainty.is_bare:
            return {}, {}
        tensors = self.uncertainty.tensors()
        header = {"format_version": FORMAT_VERSION, _UNCERTAINTY: self.uncertainty.header()}
        return header, {_UNCERTAINTY: tensors} if tensors else {}

    @classmethod
    def _further_fields(cls, header: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        tensors = params.pop(_UNCERTAINTY, {})
        return {"uncertainty": Uncertainty.read(header[_UNCERTAINTY], tensors)} if _UNCERTAINTY in header else {}

    @classmethod
    def _check_kind(cls, metadata: dict[str, Any], where: str) -> None:
        if "property" in metadata:
            raise MlipError(
                f"predicts {metadata['property']}: it is no potential", where=where, fix="mlip.PropertyModel.load"
            )


load = Potential.load


def open_potential(potential: Potential | str | os.PathLike | None, head: str | None = None) -> Potential:
    """A potential with a single head, ready to evaluate; opens a file, a name, or for None the default potential.

    Raises:
        MlipError: see `Potential.load` and `Potential.of_head`.
    """
    return (potential if isinstance(potential, Potential) else Potential.load(potential)).of_head(head)


def open_evaluator(potential: Any) -> Potential | ForeignPotential:
    """Like `open_potential`, but also accepts ASE calculators: ase:MODULE:CLASS?key=value, or the name of a registered
    potential that only its publisher's calculator can read.

    Raises:
        MlipError: see `open_potential` and `ForeignPotential.open`.
    """
    if isinstance(potential, ForeignPotential):
        return potential
    text = foreign_name(potential)
    return open_potential(potential) if text is None else ForeignPotential.open(text)


def energies_by_z(energies: dict[str, float]) -> Float[np.ndarray, "119"]:
    """Table of energies by atomic number, eV; NaN for missing elements."""
    table = np.full(len(chemical_symbols), np.nan)
    for symbol, energy in energies.items():
        table[atomic_numbers[symbol]] = energy
    return table


def _choose(heads: Sequence[str]) -> str:
    return f"choose one of {', '.join(heads)}: head=NAME; mlip convert POTENTIAL OUT --head NAME makes a file of it"
