"""Cells of layers and chains for VASP: a layer lies in the xy plane, a chain along x, and the other directions are
vacuum.

VASP's LATTICE_CONSTRAINTS removes rows and columns of the stress along Cartesian axes. So the vacuum is only kept if
its cell vectors lie along Cartesian axes that no repeated vector has a component along.
"""

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from mlip.data.low_dimensional import crystal_axes, crystal_directions, unwrapped
from mlip.dft.records import Proposal
from mlip.errors import MlipError

if TYPE_CHECKING:
    from pymatgen.core import Structure

_FLATTEST = 1e-3
"""Cell volume per atom, A^3, below which a cell counts as flat."""


def as_calculated(proposal: Proposal, vacuum: float) -> "Structure":
    """The structure in a cell that is periodic in three directions. Only elements, positions and cell are kept, so that
    no magnetic moments of another calculation are a start.

    Args:
        vacuum: vacuum of layers and chains between the outermost nuclei, A.

    Raises:
        MlipError: there are no atoms, an atom has no element, positions are not finite, the cell has no volume, or its
            periodicity contradicts the dimensionality.
    """
    from pymatgen.core import Structure

    atoms = proposal.atoms
    if not len(atoms) or not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise MlipError("has no atoms, or positions that are no numbers", where=proposal.id)
    if not atoms.numbers.all():
        raise MlipError("has an atom of no element", where=proposal.id)
    directions = crystal_directions(atoms.pbc, proposal.dimensionality, where=proposal.id)
    cell, positions = (atoms.cell.array, atoms.positions) if directions.all() else _set_apart(atoms, directions, vacuum)
    if abs(np.linalg.det(cell)) < _FLATTEST * len(atoms):
        raise MlipError("the cell has no volume", where=proposal.id)
    return Structure(cell, atoms.numbers, positions, coords_are_cartesian=True)


def _set_apart(atoms: Atoms, directions: np.ndarray, vacuum: float) -> tuple[np.ndarray, np.ndarray]:
    """Cell and positions with the repeated vectors first, and the layer or chain in the middle of its vacuum."""
    try:
        whole = unwrapped(atoms.positions, atoms.cell.array, atoms.pbc & ~directions)
        repeated, axes = crystal_axes(atoms.cell.array, directions)
    except np.linalg.LinAlgError:
        raise MlipError("the cell vectors are not independent") from None
    if len(axes) < 3:
        raise MlipError("the cell vectors are not independent")
    if np.linalg.det(axes) < 0:
        axes[-1] *= -1
    n = len(repeated)
    turned = whole @ axes.T
    heights = turned[:, n:]
    lengths = np.ptp(heights, axis=0) + vacuum
    turned[:, n:] += lengths / 2 - (heights.min(axis=0) + heights.max(axis=0)) / 2
    cell = np.zeros((3, 3))
    cell[:n, :n] = (repeated @ axes.T)[:, :n]
    cell[range(n, 3), range(n, 3)] = lengths
    return cell, turned
