"""The plain records of a hand-over: structures to calculate, and their outcomes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from mlip.data.records import Frame

FINISHED = "finished"
NOT_STARTED = "not_started"
UNFINISHED = "unfinished"
"""Reason of a run that is still running or was killed."""
VANISHED = "folder vanished"
NO_INPUTS = "no inputs"
"""Reason of a structure for which no inputs could be written."""
NOT_READABLE = "not readable"
STEPS_USED_UP = "ionic steps used up"
STOPPED = "stopped before it converged"
OTHER_STRUCTURE = "other structure"
OTHER_FUNCTIONAL = "other functional"
"""Reason of a run whose functional or Hubbard U is not the requested one."""
OTHER_SETTINGS = "other settings"
"""Reason of a run whose cutoff, pseudopotentials, k-points, spin or kind of run is not the requested one."""
VACUUM_CHANGED = "vacuum changed"
"""Reason of a layer or chain whose cell relaxed across its vacuum: VASP ignored LATTICE_CONSTRAINTS."""


@dataclass(frozen=True)
class Proposal:
    """A structure to calculate."""

    id: str
    """Id, unique in its hand-over, and the name of its folder: letters, digits, '.', '_' and '-'."""
    atoms: Atoms
    """Structure relaxed beforehand; never modified."""
    dimensionality: int = 3
    """Dimensionality: 3, 2 or 1. Fully periodic layers have their vacuum along c, chains along b and c."""

    @property
    def checksum(self) -> str:
        """SHA-256 of elements, positions, cell and periodicity, in full precision, and of the dimensionality."""
        content = hashlib.sha256(f"{self.dimensionality} {len(self.atoms)}\n".encode())
        atoms = self.atoms
        for array, kind in ((atoms.numbers, "<i4"), (atoms.positions, "<f8"), (atoms.cell.array, "<f8")):
            content.update(np.ascontiguousarray(array, kind).tobytes())
        content.update(np.asarray(atoms.pbc, np.uint8).tobytes())
        return content.hexdigest()


@dataclass(frozen=True)
class Outcome:
    """The outcome of a proposal; each proposal has exactly one."""

    id: str
    reason: str
    """Reason: `FINISHED`, `NOT_STARTED`, `UNFINISHED`, or why the calculation failed."""
    message: str = ""
    """Details of the reason, in one line."""
    frame: Frame | None = None
    """Relaxed structure of a finished calculation, with total energy (eV per cell, sigma -> 0), forces and stress."""
    functional: str = "unknown"
    """Functional: "PBE", "PBE+U", ...; "surrogate:NAME" where a calculator stands in for DFT."""
    n_steps: int = 0
    source: str = ""
    """File that the outcome was read from, relative to the folder of the hand-over."""
    follow_ups: Mapping[str, float] = field(default_factory=dict)
    """Functional -> total energy of a single point on the relaxed structure, eV per cell."""
