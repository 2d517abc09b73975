"""Selection of the phases whose distance to the hull changes when phases below it are added.

A phase decomposes on a facet of the hull, whose plane lies below all entries and touches the hull at the phase's
composition. As long as that plane also lies below the added phases, the hull at the phase stays the same. So the
chemical potentials of its facet tell whether a phase is affected, without computing a hull.
"""

from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from mlip.hull.convex_hull import MAX_ELEMENTS, Phases, in_subsystems, system_keys

_SLACK = 1e-6
"""Tolerance relative to the chemical potentials, larger than the rounding of single precision."""


def touched_rows(phases: Phases, potentials: Float[np.ndarray, "n 9"], below: Phases) -> Int[np.ndarray, " k"]:
    """Rows of the phases whose distance must be recalculated: all that change, and hardly any others.

    Args:
        potentials: chemical potentials of the facet on which each phase decomposes, eV/atom, in the columns of its
            elements; float32 suffices. NaN where unknown.
        below: the added phases that lie below the hull.
    """
    candidates = np.flatnonzero(_contains_one_of(phases, np.unique(below.keys)))
    some, by_system, found = phases.take(candidates), dict(below.by_system()), []
    for system, rows in some.by_system():
        inside, x = in_subsystems(system, below, by_system)
        planes = potentials[candidates[rows], : len(system)].astype(np.float64)
        slack = _SLACK * (1 + np.abs(planes).max(1, keepdims=True))
        is_spared = (planes @ x.T + slack <= below.energies[inside]).all(1)
        found.append(candidates[rows[~is_spared]])
    return np.concatenate([np.empty(0, int), *found])


def _contains_one_of(phases: Phases, keys: Int[np.ndarray, " s"]) -> Bool[np.ndarray, " n"]:
    """Whether each phase's chemical system is, or contains, one of the systems."""
    if not len(keys) or not len(phases):
        return np.zeros(len(phases), bool)
    _, first, system = np.unique(phases.keys, return_index=True, return_inverse=True)
    numbers = phases.numbers[first]
    sizes = (numbers > 0).sum(1)
    is_found = np.zeros(len(first), bool)
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        for n in range(1, size + 1):
            for columns in combinations(range(size), n):
                part = np.zeros((len(rows), MAX_ELEMENTS), np.uint8)
                part[:, :n] = numbers[np.ix_(rows, columns)]
                is_found[rows] |= np.isin(system_keys(part), keys)
    return is_found[system]
