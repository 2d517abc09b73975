"""The geometry at which a VASP run ends and the next begins: a path holds it twice, with two energies.

The restart computes it again with a basis made for that cell; the earlier of the two is dropped.
"""

import numpy as np

from mlip.data.records import Frame

RESTART = "geometry repeated at a restart"
"""Why a step is dropped."""

_SAME_GEOMETRY = 1e-5
"""A; files give coordinates with 8 decimals."""


def is_same_geometry(a: Frame, b: Frame) -> bool:
    """Same cell, and the same positions but for lattice vectors. Both have the same species in order."""
    if np.abs(a.cell - b.cell).max() > _SAME_GEOMETRY:
        return False
    shifts = np.linalg.solve(b.cell.T, (a.positions - b.positions).T).T
    return bool(np.abs((shifts - np.round(shifts)) @ b.cell).max() < _SAME_GEOMETRY)
