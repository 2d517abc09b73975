"""The plain records of a hand-over: structures that want to be calculated, and what came of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from mlip.data.records import Frame

FINISHED = "finished"
NOT_STARTED = "not_started"
UNFINISHED = "unfinished"
"""It runs still, or was killed."""
VANISHED = "folder vanished"
NO_INPUTS = "no inputs"
"""Nothing could be written for the structure."""
NOT_READABLE = "not readable"
STEPS_USED_UP = "ionic steps used up"
STOPPED = "stopped before it converged"
OTHER_STRUCTURE = "other structure"
OTHER_FUNCTIONAL = "other functional"
"""Functional, or a Hubbard U, is not what was asked for."""
OTHER_SETTINGS = "other settings"
"""Cutoff, pseudopotentials, k-points, spin or kind of run are not what was asked for."""
VACUUM_CHANGED = "vacuum changed"
"""The cell of a layer or a chain relaxed across its vacuum: VASP ignored LATTICE_CONSTRAINTS."""


@dataclass(frozen=True)
class Proposal:
    """A structure that wants to be calculated."""

    id: str
    """Unique in its hand-over, and the name of a folder: letters, digits, '.', '_' and '-'."""
    atoms: Atoms
    """Relaxed before; never modified."""
    dimensionality: int = 3
    """3, 2 or 1. Layers and chains whose three directions are periodic have their vacuum along c, or along b and c."""

    @property
    def checksum(self) -> str:
        """SHA-256 of elements, positions, cell and periodicity, all digits of them, and of the dimensionality."""
        content = hashlib.sha256(f"{self.dimensionality} {len(self.atoms)}\n".encode())
        atoms = self.atoms
        for array, kind in ((atoms.numbers, "<i4"), (atoms.positions, "<f8"), (atoms.cell.array, "<f8")):
            content.update(np.ascontiguousarray(array, kind).tobytes())
        content.update(np.asarray(atoms.pbc, np.uint8).tobytes())
        return content.hexdigest()


@dataclass(frozen=True)
class Outcome:
    """The result of a proposal; each has exactly one."""

    id: str
    reason: str
    """`FINISHED`, `NOT_STARTED`, `UNFINISHED`, or why it failed."""
    message: str = ""
    """One line."""
    frame: Frame | None = None
    """The relaxed structure of a finished one, with total energy (eV a cell, sigma -> 0), forces and stress."""
    functional: str = "unknown"
    """"PBE", "PBE+U", ...; "surrogate:NAME" where a calculator stands in for DFT."""
    n_steps: int = 0
    source: str = ""
    """File that it was read from, relative to the folder of the hand-over."""
    follow_ups: Mapping[str, float] = field(default_factory=dict)
    """Functional -> total energy, eV a cell, of single points on the relaxed structure."""
