"""A material of the relaxation benchmark: its DFT-relaxed structure, where a relaxation starts, and the record in
which both are compared.
"""

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
"""Digits of the start's coordinates in a record, A: to look at, not to go on from."""


@dataclass(frozen=True)
class Reference:
    """A material as DFT has it."""

    material: int
    """Index in the store."""
    id: str
    formula: str
    functional: str
    dimensionality: int
    relaxed: Atoms
    energy: float
    """Energy of `relaxed`, eV; NaN where unknown."""
    start: Atoms
    """`relaxed`, or the first structure of its path."""
    directions: Bool[np.ndarray, " 3"]
    """The cell vectors along which it is periodic."""

    @classmethod
    def read(cls, store: Store, k: int, start: str) -> "Reference":
        """The reference of the store's material k; `start`: its relaxed structure ("last") or the "first" frame of its
        path.

        Raises:
            MlipError: the store has no relaxed structure of it; its periodicity does not fit its dimensionality.
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
        """Effective volume, A^3."""
        return effective_volume(atoms.positions, atoms.cell.array, atoms.pbc, self.directions)

    def record(self, result: RelaxResult, seconds: float) -> dict[str, Any]:
        """A line of the results file; `volume` is null where the relaxation failed."""
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
            # Its place in the batch, which a resumed run or a cluster would change, says less than the id above.
            "message": result.message and re.sub(r"^structure \d+: ", "", result.message),
        }


def _atoms(frame: Frame) -> Atoms:
    return Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
