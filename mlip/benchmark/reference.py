"""A material of the relaxation benchmark: its DFT-relaxed structure, the start of its relaxation, and the record that
compares the relaxed structure with DFT's."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Bool

from mlip.benchmark.volume import effective_volume
from mlip.data import Frame, Store
from mlip.data.low_dimensional import crystal_directions
from mlip.data.store import Material
from mlip.errors import MlipError
from mlip.relaxation import RelaxResult

_DIGITS = 6
"""Decimals of the start's coordinates in a record, A: enough for a picture, not to restart from."""


@dataclass(frozen=True)
class Reference:
    """A material's DFT-relaxed structure and energy, and the start of its relaxation."""

    material: int
    """Index of the material in the store."""
    id: str
    formula: str
    functional: str
    dimensionality: int
    relaxed: Atoms
    energy: float
    """Energy of `relaxed`, eV; NaN where unknown."""
    start: Atoms
    """Start of the relaxation: `relaxed`, or the first structure of the material's path."""
    directions: Bool[np.ndarray, " 3"]
    """Whether the material is periodic along each cell vector, vacuum excluded."""

    @classmethod
    def read(cls, store: Store, k: int, start: str) -> "Reference":
        """The reference of material k of the store. `start` is "last" (the relaxed structure) or "first" (first frame
        of the path).

        Raises:
            MlipError: the store has no relaxed structure of the material, or its periodicity contradicts its
                dimensionality.
        """
        material: Material = store.material(k)
        frame = store.relaxed_frame(material)
        if frame is None:
            raise MlipError(f"no relaxed structure to compare with: {material.why_not_relaxed}", where=material.id)
        relaxed = _atoms(frame)
        return cls(
            material=k,
            id=material.id,
            formula=material.formula,
            functional=material.functional,
            dimensionality=material.dimensionality,
            relaxed=relaxed,
            energy=frame.energy,
            start=relaxed if start == "last" else _atoms(store.frame(material.frames[0])),
            directions=crystal_directions(frame.pbc, material.dimensionality, where=material.id),
        )

    def volume_of(self, atoms: Atoms) -> float:
        """Effective volume of a structure, A^3."""
        return effective_volume(atoms.positions, atoms.cell.array, atoms.pbc, self.directions)

    def record(self, result: RelaxResult, seconds: float) -> dict[str, Any]:
        """A line of the results file; `volume` is None where the relaxation failed."""
        return {
            "material": self.material,
            "id": self.id,
            "formula": self.formula,
            "functional": self.functional,
            "dimensionality": self.dimensionality,
            "n_atoms": len(self.relaxed),
            "dft_energy": self.energy if np.isfinite(self.energy) else None,
            "dft_volume": self.volume_of(self.relaxed),
            "volume": None if result.failed else self.volume_of(result.atoms),
            "seconds": round(seconds, 4),
            "initial_cell": np.round(self.start.cell.array, _DIGITS).tolist(),
            "initial_positions": np.round(self.start.positions, _DIGITS).tolist(),
            **result.as_record(),
            # The position in the batch depends on resuming and on the cluster; the id above identifies the structure.
            "message": result.message and re.sub(r"^structure \d+: ", "", result.message),
        }


def _atoms(frame: Frame) -> Atoms:
    return Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
