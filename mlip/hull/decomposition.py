"""What a phase decomposes into: the mixture of stable phases that has its composition and the hull's energy."""

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Int
from scipy.optimize import nnls

from mlip.hull.convex_hull import in_subsystems
from mlip.hull.growing import GrowingHull

Mixture = list[tuple[int | str, float]]
"""Entries by their rows, or elements by their symbols, and the share of the atoms that each has; the largest first."""
_ON_FACET = 1e-5
"""eV/atom: how near a stable phase is to the plane of a facet that it is a corner of; planes are in single precision.
"""
_NOTHING = 1e-9
"""A share of the atoms that is none."""


def decompositions(hull: GrowingHull, rows: Int[np.ndarray, " k"]) -> list[Mixture]:
    """The mixture that each of some entries decomposes into; a stable entry is its own.

    An element appears by its symbol where its phase at 0 is no entry, but there by definition.
    """
    found: list[Mixture] = [[] for _ in rows]
    stable = np.flatnonzero(hull.is_vertex)
    corners = hull.phases.take(stable)
    by_system, asked = dict(corners.by_system()), hull.phases.take(rows)
    for system, places in asked.by_system():
        inside, x = in_subsystems(system, corners, by_system)
        names: list[int | str] = [int(row) for row in stable[inside]]
        energies = corners.energies[inside]
        if hull.are_formation_energies:
            names += [chemical_symbols[z] for z in system]
            x, energies = np.concatenate([x, np.eye(len(system))]), np.append(energies, np.zeros(len(system)))
        for place in places:
            row = int(rows[place])
            if hull.is_vertex[row]:
                found[place] = [(row, 1.0)]
                continue
            plane = hull.potentials[row, : len(system)].astype(np.float64)
            near = np.flatnonzero(energies - x @ plane < _ON_FACET * (1 + np.abs(plane).max()))
            shares, _ = nnls(x[near].T, asked.fractions[place, : len(system)])
            mixture = [(names[k], float(share)) for k, share in zip(near, shares, strict=True) if share > _NOTHING]
            found[place] = sorted(mixture, key=lambda part: -part[1])
    return found
