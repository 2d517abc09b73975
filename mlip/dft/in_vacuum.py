"""Layers and chains as VASP relaxes them: a layer in the plane of x and y, a chain along x, the rest vacuum.

VASP's LATTICE_CONSTRAINTS takes rows and columns out of the stress along Cartesian axes, so that the vacuum stays what
it is only if its cell vectors lie along axes that no repeated vector has a part of.
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
"""A^3 an atom; cells with less are none."""


def as_calculated(proposal: Proposal, vacuum: float) -> "Structure":
    """The structure in a cell that is periodic in three directions; elements, positions and cell alone, so that no
    moments of another calculation are a start.

    Args:
        vacuum: of layers and chains, A, between the outermost nuclei.

    Raises:
        MlipError: no atoms, one of no element, positions that are no numbers, a cell without volume, or a periodicity
            that does not fit the dimensionality.
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
    """Cell and positions, the repeated vectors first, the layer or chain in the middle of its vacuum."""
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
