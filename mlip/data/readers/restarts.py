"""Geometry at which one VASP run ends and the next begins: a path has it twice, with two energies.

The restart computes it again with a basis set made for that cell, so the earlier of the two steps is dropped.
"""

import numpy as np

from mlip.data.records import Frame

RESTART = "geometry repeated at a restart"
"""Reason for dropping such a step."""

_SAME_GEOMETRY = 1e-5
"""Tolerance for equal coordinates, A; files give them with 8 decimals."""


def is_same_geometry(a: Frame, b: Frame) -> bool:
    """Whether two frames have the same cell, and the same positions up to lattice vectors. They must have the same
    species in the same order."""
    if np.abs(a.cell - b.cell).max() > _SAME_GEOMETRY:
        return False
    shifts = np.linalg.solve(b.cell.T, (a.positions - b.positions).T).T
    return bool(np.abs((shifts - np.round(shifts)) @ b.cell).max() < _SAME_GEOMETRY)
