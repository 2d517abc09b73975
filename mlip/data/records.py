"""Plain records that every reader returns and the store keeps: Frame, Trajectory, Entry, Skipped.

Units and signs are those of `mlip.units`. A missing label is NaN or None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One structure with the labels computed for it."""

    numbers: Int[np.ndarray, " n"]
    """Atomic numbers, int16."""
    positions: Float[np.ndarray, "n 3"]
    """Cartesian positions, A, float64."""
    cell: Float[np.ndarray, "3 3"]
    """Lattice vectors as rows, A, float64; a missing vector is a row of zeros."""
    pbc: Bool[np.ndarray, "3"]
    energy: float = float("nan")
    """Total energy of the cell, eV."""
    forces: Float[np.ndarray, "n 3"] | None = None
    """Forces, eV/A; None if not known."""
    stress: Float[np.ndarray, "6"] | None = None
    """Stress, eV/A^3, in ASE's Voigt order and sign; None if not known."""
    magmoms: Float[np.ndarray, " n"] | None = None
    """Magnetic moments, mu_B; None if not known."""
    calculation: int = 0
    """Index of the frame's run among the material's consecutive DFT runs."""
    ionic_step: int = 0
    """Index of the step within its run, counted in the source (before any subsampling)."""
    amounts: Float[np.ndarray, " n"] | None = None
    """Number of atoms of the formula at each site, if only the composition is known; the positions are then NaN.
    None for a structure."""

    direction: Float[np.ndarray, "n 3"] | None = None
    """Displacement of all atoms together, with norm 1, for which the curvature is known; None if not known."""
    curvature: Float[np.ndarray, "n 3"] | None = None
    """Hessian of the energy times the direction, eV/A^2; None if not known."""

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def name(self) -> str:
        """Name of the frame within its material, by run and step."""
        return f"run {self.calculation} step {self.ionic_step}"


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Frames of one material in chronological order, with facts about the material."""

    material_id: str
    frames: Sequence[Frame]
    functional: str
    """Functional, such as 'PBE', 'PBEsol' or 'SCAN'; for surrogate data, a name that contains 'surrogate'."""
    dimensionality: int
    """1, 2 or 3; 0 if only the composition is known."""
    properties: Mapping[str, float | str] = field(default_factory=dict)
    """Scalars of the material: e_form, e_above_hull, band_gap_ind, spg, prototype_id, ..."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Number of steps in the source that are not among the frames, by reason."""
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names of the frames to which a remark of the reader applies, by remark, such as a label that it could not use."""
    split: str | None = None
    """'train', 'val' or 'test' if the source states a split."""

    @property
    def n_read(self) -> int:
        """Number of steps in the source, including dropped ones."""
        return len(self.frames) + sum(self.dropped.values())


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A bulk entry of ALEXANDRIA: final structure and scalar properties. Its energy comes from another calculation,
    with other settings, than the relaxation path's: never train on both."""

    material_id: str
    frame: Frame
    functional: str
    dimensionality: int
    properties: Mapping[str, float | str] = field(default_factory=dict)
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names of the frames to which a remark applies, as in `Trajectory`."""
    split: str | None = None
    """'train', 'val' or 'test' if the source states a split."""

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
    """A material that a reader could not use; readers return it in the material's place."""

    material_id: str
    reason: str
    """Kind of fault, in the same words for every material that has it, because builds count by it."""
    detail: str
    """Place of the fault in the material, and what was found there."""
    source: str
    """Path or name of the source file."""


class MalformedError(Exception):
    """Fault found inside a reader, which turns it into a `Skipped`."""

    def __init__(self, reason: str, detail: str):
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")

    def as_skipped(self, material_id: str, source: str) -> Skipped:
        return Skipped(material_id, self.reason, self.detail, source)
