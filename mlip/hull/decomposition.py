"""The decomposition of a phase: the mixture of stable phases with its composition and the energy of the hull."""

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Int
from scipy.optimize import nnls

from mlip.hull.convex_hull import in_subsystems
from mlip.hull.growing import GrowingHull

Mixture = list[tuple[int | str, float]]
"""Parts of a mixture with their atomic fractions, largest first: entries by row, or elements by symbol."""
_ON_FACET = 1e-5
"""Largest distance of a stable phase from a facet's plane for it to be a corner, eV/atom; planes are float32."""
_NOTHING = 1e-9
"""Atomic fraction below which a part of a mixture is left out."""


def decompositions(hull: GrowingHull, rows: Int[np.ndarray, " k"]) -> list[Mixture]:
    """The mixture into which each of the entries `rows` decomposes; a stable entry is its own mixture.

    An element appears by its symbol where its phase at 0 is not an entry, but exists by definition.
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
