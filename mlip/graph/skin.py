"""Check that a neighbor list with a skin is still complete after the atoms *and the cell* have moved.

Write the new positions as x = x0 F + w, with F = L0^-1 L the deformation of the cell and w the remainder. A pair that
was outside the list, |r0| > cutoff + skin, is now at |r| >= sigma_min(F) |r0| - 2 max|w|, and the smallest singular
value obeys sigma_min(F) >= 1 - ||F - I||. Hence the list is complete while (1 - ||F - I||) (cutoff + skin) - 2 max|w|
>= cutoff: cheap, and safe for any strain and shear.
"""

import numpy as np
from ase.geometry import complete_cell
from jaxtyping import Bool, Float


def is_list_complete(
    reference_positions: Float[np.ndarray, "n 3"],
    reference_cell: Float[np.ndarray, "3 3"],
    positions: Float[np.ndarray, "n 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, " 3"],
    cutoff: float,
    skin: float,
) -> bool:
    """Whether a list of all pairs within cutoff + skin at the reference still contains all pairs within cutoff.

    Lattice vectors of open directions have no images and are ignored.
    """
    deformation = np.linalg.solve(_periodic_cell(reference_cell, pbc), _periodic_cell(cell, pbc))
    displacement = positions - reference_positions @ deformation
    displacement -= displacement.mean(axis=0)  # a common translation does not change any pair
    largest = np.sqrt((displacement**2).sum(axis=1).max(initial=0.0))
    strain = np.linalg.norm(deformation - np.eye(3))
    return bool((1 - strain) * (cutoff + skin) - 2 * largest >= cutoff)


def _periodic_cell(cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Periodic lattice vectors, completed by unit normals."""
    return complete_cell(np.where(np.asarray(pbc)[:, None], cell, 0.0))
