"""Which sites of a prototype may change places without a change of the crystal.

An isometry of the crystal that takes all atoms of a site to atoms of one site exchanges sites: such as the shift by
half a cell diagonal that exchanges the sites of rock salt. Isometries are found by spglib on the crystal with all its
atoms alike; mirror images count as the same crystal.
"""

import numpy as np
import spglib
from ase import Atoms
from jaxtyping import Int

SYMMETRY_TOLERANCE = 0.01
"""A; relaxation finds space groups within the same."""


def site_symmetries(atoms: Atoms, site_of_atom: Int[np.ndarray, " n"]) -> Int[np.ndarray, "g sites"]:
    """All permutations of the sites that leave the crystal as it is; a group, the identity first.

    Args:
        atoms: a primitive cell.
    """
    positions = atoms.get_scaled_positions()
    operations = spglib.get_symmetry(
        (atoms.cell.array, positions, np.ones(len(atoms), int)), symprec=SYMMETRY_TOLERANCE
    )
    found = {tuple(range(site_of_atom.max() + 1))}
    for rotation, shift in zip(operations["rotations"], operations["translations"], strict=True):
        apart = (positions @ rotation.T + shift)[:, None] - positions
        apart = np.linalg.norm((apart - np.round(apart)) @ atoms.cell.array, axis=-1)
        permutation = _of_sites(site_of_atom, apart.argmin(1))
        if permutation is not None:
            found.add(permutation)
    return np.array(sorted(found), np.int64)


def _of_sites(site_of_atom: np.ndarray, image_of_atom: np.ndarray) -> tuple[int, ...] | None:
    """Where each site goes; None if its atoms go to several."""
    pairs = set(zip(site_of_atom.tolist(), site_of_atom[image_of_atom].tolist(), strict=True))
    permutation = dict(pairs)
    if len(pairs) != len(permutation) or len(set(permutation.values())) != len(permutation):
        return None
    return tuple(permutation[site] for site in range(len(permutation)))
