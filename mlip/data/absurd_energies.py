"""Frames with absurd energies, such as those of failed calculations: a few of them can dominate the fitted reference
energies of a whole set.

They are searched for only if energies per atom are spread wider than those of one kind of calculation. All-electron
energies are, too, by thousands of eV, so the criterion is the residual of a robust fit of reference energies.
"""

from collections.abc import Iterable

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

SPREAD = 50.0
"""Spread of energies per atom, eV/atom, above which absurd energies are searched for; pseudopotential energies of sound
sets lie within 30 (PBE: -16 to 5)."""
_LEAST = 20.0
"""Residual of the robust fit, eV/atom, below which no frame is absurd."""
_MULTIPLE = 50.0
"""Residual of the robust fit, in robust standard deviations, below which no frame is absurd."""
_MOST = 0.05
"""Largest fraction of absurd frames; if more are far off, the set is a mixture of calculations, and none is at
fault."""
_HUBER = 1.345
"""Residual, in robust standard deviations, above which the loss is linear: 95 % efficient for Gaussian residuals."""
_ITERATIONS = 30
_N_ELEMENTS = len(chemical_symbols)

Compositions = Int[np.ndarray, "k 119"]


class AbsurdEnergies:
    """Criterion for absurd energies: the residual of a robust fit of reference energies.

    Args:
        composition: number of atoms of each element in each frame of a sample; columns by atomic number.
        energies: eV per cell.
        otherwise: reference energies of elements that the sample lacks, eV, by atomic number.
    """

    def __init__(
        self, composition: Compositions, energies: Float[np.ndarray, " k"], otherwise: Float[np.ndarray, "119"]
    ):
        self._reference = np.where(composition.any(axis=0), robust_fit(composition, energies), otherwise)
        residual = np.abs(self.residuals(composition, energies))
        self._limit = max(_LEAST, _MULTIPLE * 1.4826 * float(np.median(residual)))
        self.are_few = 0 < np.mean(residual > self._limit) <= _MOST

    def residuals(self, composition: Compositions, energies: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """Difference of each frame's energy from the robust fit, eV/atom."""
        return (energies - composition @ self._reference) / composition.sum(axis=1)

    def among(self, composition: Compositions, energies: Float[np.ndarray, " k"]) -> Bool[np.ndarray, " k"]:
        """Whether each frame has an absurd energy."""
        return np.abs(self.residuals(composition, energies)) > self._limit


def robust_fit(composition: Compositions, energies: Float[np.ndarray, " k"]) -> Float[np.ndarray, "119"]:
    """E0 by atomic number, eV, with Huber's loss on energies per atom: iteratively reweighted least squares, residuals
    in units of their median. Elements that do not occur have zero."""
    elements = np.flatnonzero(composition.sum(axis=0))
    reference = np.zeros(_N_ELEMENTS)
    if not len(energies):
        return reference
    size = composition.sum(axis=1)
    shares, per_atom = composition[:, elements] / size[:, None], energies / size
    weights = np.ones(len(energies))
    for _ in range(_ITERATIONS):
        root = np.sqrt(weights)
        reference[elements] = np.linalg.lstsq(shares * root[:, None], per_atom * root, rcond=1e-6)[0]
        residual = np.abs(per_atom - shares @ reference[elements])
        scale = 1.4826 * np.median(residual)
        if scale == 0:
            break
        weights = np.minimum(1.0, _HUBER * scale / np.maximum(residual, 1e-12))
    return reference


def compositions(number: Int[np.ndarray, " n"], size: Int[np.ndarray, " k"]) -> Compositions:
    """Number of atoms of each element in each frame; `number` holds the atomic numbers of all frames, one after
    another."""
    cells = np.repeat(np.arange(len(size)), size) * _N_ELEMENTS + number
    return np.bincount(cells, minlength=len(size) * _N_ELEMENTS).reshape(len(size), _N_ELEMENTS)


def sample_of(
    blocks: Iterable[dict[str, np.ndarray]], n_frames: int, at_most: int = 20_000
) -> tuple[Compositions, Float[np.ndarray, " k"]]:
    """Compositions and energies of frames with a known energy, evenly spread over the blocks."""
    stride = max(1, n_frames // at_most)
    rows, energies = [np.zeros((0, _N_ELEMENTS), np.int64)], [np.zeros(0)]
    for block in blocks:
        known = np.flatnonzero(np.isfinite(block["energy"]))[::stride]
        rows.append(compositions(block["number"], block["size"])[known])
        energies.append(block["energy"][known])
    return np.concatenate(rows), np.concatenate(energies)
