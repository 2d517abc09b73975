"""The plain records that every reader gives and the store keeps: Frame, Trajectory, Entry, Skipped.

Units and signs are those of `mlip.units`. A label that is missing is NaN; nothing else is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One structure with what was computed for it."""

    numbers: Int[np.ndarray, " n"]
    """Atomic numbers, int16."""
    positions: Float[np.ndarray, "n 3"]
    """Cartesian, A, float64."""
    cell: Float[np.ndarray, "3 3"]
    """Rows are the lattice vectors, A, float64; zero rows where there is none."""
    pbc: Bool[np.ndarray, "3"]
    energy: float = float("nan")
    """Total energy of the cell, eV."""
    forces: Float[np.ndarray, "n 3"] | None = None
    """eV/A; None = not known."""
    stress: Float[np.ndarray, "6"] | None = None
    """eV/A^3, ASE's Voigt order and sign; None = not known."""
    magmoms: Float[np.ndarray, " n"] | None = None
    """mu_B; None = not known."""
    calculation: int = 0
    """Which of the material's consecutive DFT runs the frame is from."""
    ionic_step: int = 0
    """Its index within that run, counted in the source (before any sub-sampling)."""
    amounts: Float[np.ndarray, " n"] | None = None
    """Atoms of the formula that each site stands for, if the composition alone is known; the positions are
    NaN then. None = a structure."""

    direction: Float[np.ndarray, "n 3"] | None = None
    """Displacement of all atoms together, of norm 1, for which the curvature is known; None = not known."""
    curvature: Float[np.ndarray, "n 3"] | None = None
    """Hessian of the energy times the direction, eV/A^2; None = not known."""

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def name(self) -> str:
        """Which of its material's frames it is."""
        return f"run {self.calculation} step {self.ionic_step}"


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """One material's frames in chronological order, with what is known of the material."""

    material_id: str
    frames: Sequence[Frame]
    functional: str
    """'PBE', 'PBEsol', 'SCAN', ...; for surrogate data a name that contains 'surrogate'."""
    dimensionality: int
    """1, 2 or 3; 0 where the composition alone is known."""
    properties: Mapping[str, float | str] = field(default_factory=dict)
    """Scalars of the material: e_form, e_above_hull, band_gap_ind, spg, prototype_id, ..."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Steps of the source that are not among the frames: reason -> how many."""
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Remarks of the reader, such as labels that it could not use: remark -> names of the frames."""
    split: str | None = None
    """'train', 'val' or 'test', where the source states it."""

    @property
    def n_read(self) -> int:
        """Steps that the source holds, dropped ones included."""
        return len(self.frames) + sum(self.dropped.values())


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A bulk entry of ALEXANDRIA: final structure, scalar properties. Its energy comes from another
    calculation than the relaxation path's (other settings): never train on both."""

    material_id: str
    frame: Frame
    functional: str
    dimensionality: int
    properties: Mapping[str, float | str] = field(default_factory=dict)
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """As a trajectory's."""
    split: str | None = None
    """As a trajectory's."""

    def as_trajectory(self) -> Trajectory:
        return Trajectory(
            self.material_id,
            (self.frame,),
            self.functional,
            self.dimensionality,
            self.properties,
            remarks=self.remarks,
            split=self.split,
        )


@dataclass(frozen=True, slots=True)
class Skipped:
    """A material that a reader could not use. Readers give it in the material's place."""

    material_id: str
    reason: str
    """The kind of fault, the same words for every material that has it: builds count by it."""
    detail: str
    """Where in the material, and what was found there."""
    source: str
    """The file."""


class MalformedError(Exception):
    """Raised within a reader by the code that finds the fault; the reader turns it into a `Skipped`."""

    def __init__(self, reason: str, detail: str):
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")

    def as_skipped(self, material_id: str, source: str) -> Skipped:
        return Skipped(material_id, self.reason, self.detail, source)
