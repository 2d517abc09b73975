"""Subsampling of a relaxation path by energy difference.

"Improving machine-learning models in materials science through large datasets", sec. 2.4: neighboring steps of a path
are nearly the same structure, so steps that differ little in energy are left out.
"""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from mlip.data.records import Trajectory
from mlip.data.stacked import chosen, column, energies_per_atom
from mlip.errors import MlipError


def kept_steps(energies: Float[np.ndarray, " n"], cutoff: float) -> Int[np.ndarray, " k"]:
    """Indices of the steps to keep, ascending.

    The first step, the one at one third of the path (index n // 3) and the last are always kept. After a kept step of
    energy E_k, for whatever reason it was kept, the next is the first with |E - E_k| >= cutoff. If one of the two
    energies is NaN, the difference is unknown, and a finite cutoff keeps the step.

    Args:
        energies: energies of the steps in chronological order, eV (or eV/atom).
        cutoff: cutoff in the same unit; 0 keeps every step, inf only the three.

    Raises:
        MlipError: the cutoff is negative or NaN.
    """
    if not cutoff >= 0:
        raise MlipError(f"a sub-sampling cutoff of {cutoff}", fix="a number >= 0, or inf")
    n = len(energies)
    energies = np.asarray(energies).tolist()  # Python floats: single NumPy scalars are several times slower
    always = {0, n // 3, n - 1}
    kept: list[int] = []
    for step, energy in enumerate(energies):
        is_far = step not in always and not abs(energy - energies[kept[-1]]) < cutoff
        if step in always or (is_far and math.isfinite(cutoff)):
            kept.append(step)
    return np.array(kept, dtype=np.int64)


def subsample(trajectory: Trajectory, cutoff: float, *, per_atom: bool) -> Trajectory:
    """The trajectory reduced to the kept steps.

    Args:
        cutoff: eV/atom if `per_atom` (the paper's PBEsol set), else eV per cell (its 2D set).
    """
    energies = energies_per_atom(trajectory.frames) if per_atom else column(trajectory.frames, "energy")
    return replace(trajectory, frames=chosen(trajectory.frames, kept_steps(energies, cutoff)))
