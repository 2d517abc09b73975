"""Frames of absurd energies, such as those of calculations that went astray: a few of them would make the reference
energies of a whole set.

They are looked for only where energies per atom lie farther apart than those of one kind of calculation do. Energies of
all electrons do, too, by thousands of eV: what counts is what a robust fit of reference energies leaves.
"""

from collections.abc import Iterable

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

SPREAD = 50.0
"""eV/atom; pseudopotential energies of sound sets lie within 30 (PBE: -16 to 5)."""
_LEAST = 20.0
"""eV/atom from the robust fit; no frame with less is absurd."""
_MULTIPLE = 50.0
"""The same, in robust standard deviations."""
_MOST = 0.05
"""Share of the frames; if more are far off, the set is a mixture of calculations, and none of them is at fault."""
_HUBER = 1.345
"""Residuals above this many robust standard deviations count linearly: 95 % efficient for Gaussian ones."""
_ITERATIONS = 30
_N_ELEMENTS = len(chemical_symbols)

Compositions = Int[np.ndarray, "k 119"]


class AbsurdEnergies:
    """Absurd energies are told from others by reference energies of a robust fit, and how far frames lie from them.

    Args:
        composition: atoms of each element in each frame of a sample; columns by atomic number.
        energies: eV per cell.
        otherwise: by atomic number, reference energies of elements that the sample lacks, eV.
    """

    def __init__(
        self, composition: Compositions, energies: Float[np.ndarray, " k"], otherwise: Float[np.ndarray, "119"]
    ):
        self._reference = np.where(composition.any(axis=0), robust_fit(composition, energies), otherwise)
        residual = np.abs(self.residuals(composition, energies))
        self._limit = max(_LEAST, _MULTIPLE * 1.4826 * float(np.median(residual)))
        self.are_few = 0 < np.mean(residual > self._limit) <= _MOST

    def residuals(self, composition: Compositions, energies: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """Distance of each frame from the robust fit, eV/atom."""
        return (energies - composition @ self._reference) / composition.sum(axis=1)

    def among(self, composition: Compositions, energies: Float[np.ndarray, " k"]) -> Bool[np.ndarray, " k"]:
        """Which frames have absurd energies."""
        return np.abs(self.residuals(composition, energies)) > self._limit


def robust_fit(composition: Compositions, energies: Float[np.ndarray, " k"]) -> Float[np.ndarray, "119"]:
    """E0 by atomic number, eV, by Huber's loss on energies per atom: reweighted least squares, residuals in units of
    their median; zero for elements that are not there."""
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
    """Atoms of each element in each frame, whose atomic numbers stand one after another."""
    cells = np.repeat(np.arange(len(size)), size) * _N_ELEMENTS + number
    return np.bincount(cells, minlength=len(size) * _N_ELEMENTS).reshape(len(size), _N_ELEMENTS)


def sample_of(
    blocks: Iterable[dict[str, np.ndarray]], n_frames: int, at_most: int = 20_000
) -> tuple[Compositions, Float[np.ndarray, " k"]]:
    """Compositions and energies of frames that are evenly spread over the blocks, of those whose energy is known."""
    stride = max(1, n_frames // at_most)
    rows, energies = [np.zeros((0, _N_ELEMENTS), np.int64)], [np.zeros(0)]
    for block in blocks:
        known = np.flatnonzero(np.isfinite(block["energy"]))[::stride]
        rows.append(compositions(block["number"], block["size"])[known])
        energies.append(block["energy"][known])
    return np.concatenate(rows), np.concatenate(energies)
