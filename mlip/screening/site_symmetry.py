"""Symmetries of a prototype that exchange sites without changing the crystal.

An isometry that maps all atoms of each site to atoms of one site permutes the sites: for example, the shift by half a
cell diagonal exchanges the sites of rock salt. Isometries are found by spglib on the crystal with all atoms of one
element; mirror images count as the same crystal.
"""

import numpy as np
import spglib
from ase import Atoms
from jaxtyping import Int

SYMMETRY_TOLERANCE = 0.01
"""Tolerance of the symmetry search, A; relaxations use the same for space groups."""


def site_symmetries(atoms: Atoms, site_of_atom: Int[np.ndarray, " n"]) -> Int[np.ndarray, "g sites"]:
    """All permutations of sites that leave the crystal unchanged; a group, the identity first.

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
    """Image of each site; None unless the isometry permutes whole sites."""
    pairs = set(zip(site_of_atom.tolist(), site_of_atom[image_of_atom].tolist(), strict=True))
    permutation = dict(pairs)
    if len(pairs) != len(permutation) or len(set(permutation.values())) != len(permutation):
        return None
    return tuple(permutation[site] for site in range(len(permutation)))
