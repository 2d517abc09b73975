"""Root mean square of forces, without the few frames whose absurd forces would dominate it, in one streaming pass.

Sound sets have tails, too: in MPtrj and in relaxations, the largest component is 60 to 90 times the root mean square.
Frames are absurd if their largest component is beyond that, and only if they change the root mean square noticeably.
Sound data thus keep theirs to the last digit, and two frames of 16,000 eV/A among 3,341 no longer turn 0.4 eV/A into
258.
"""

import heapq
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

_MULTIPLE = 100.0
"""Largest force component of a sound frame, as a multiple of the other frames' root mean square."""
_LEAST = 20.0
"""Force component in eV/A below which no frame is absurd (the limit of the paper's rules for 2D materials)."""
_MOVED = 1.1
"""Factor by which absurd frames must increase the root mean square to be left out."""
_BULK = 0.75
"""Fraction of the frames, those with the smallest forces, from which the search begins."""
_BINS_PER_OCTAVE = 8
_LOWEST, _HIGHEST = -40, 64
"""Range of the bins: powers of two of the largest component in eV/A."""
_NAMED = 20


class AbsurdFrame(NamedTuple):
    """A frame that is left out of the scale."""

    index: int
    """Index among the frames of the pass."""
    largest: float
    """Largest force component, eV/A."""


class ForceScale(NamedTuple):
    """Root mean square of forces, and the frames that were left out."""

    rms: float
    """Root mean square of the components of all frames, eV/A; NaN without forces."""
    robust_rms: float
    """Root mean square over the frames that are not absurd; `rms` itself if none is."""
    n_absurd: int
    absurd: tuple[AbsurdFrame, ...]
    """The worst of the absurd frames."""


class ForceSums:
    """Sums of a pass: squares and numbers of force components, binned by the frame's largest component."""

    def __init__(self) -> None:
        n_bins = (_HIGHEST - _LOWEST) * _BINS_PER_OCTAVE
        self._frames, self._components = np.zeros(n_bins, np.int64), np.zeros(n_bins, np.int64)
        self._squares = np.zeros(n_bins)
        self._square, self._n, self._n_frames = 0.0, 0, 0
        self._worst: list[AbsurdFrame] = []

    def add(self, force: Float[np.ndarray, "n 3"], size: Int[np.ndarray, " k"]) -> None:
        """Add the forces of a block of frames, eV/A, NaN where missing; `size` is the number of atoms of each frame."""
        components = force[np.isfinite(force)].astype(np.float64)
        self._n += components.size
        self._square += float(components @ components)
        if not len(size):
            return
        values = np.where(np.isfinite(force), force, 0.0).astype(np.float64)
        starts = np.cumsum(size) - size
        largest = np.maximum.reduceat(np.abs(values).max(axis=1), starts)
        n_known = np.add.reduceat(np.isfinite(force).sum(axis=1), starts)
        bins = _bin(largest)
        np.add.at(self._frames, bins, n_known > 0)
        np.add.at(self._components, bins, n_known)
        np.add.at(self._squares, bins, np.add.reduceat((values**2).sum(axis=1), starts))
        large = np.flatnonzero(largest > _LEAST)
        here = (AbsurdFrame(self._n_frames + int(k), float(largest[k])) for k in large)
        self._worst = heapq.nlargest(_NAMED, [*self._worst, *here], key=lambda frame: frame.largest)
        self._n_frames += len(size)

    def scale(self) -> ForceScale:
        """Force scale of all frames that were added."""
        if not self._n:
            return ForceScale(math.nan, math.nan, 0, ())
        rms = math.sqrt(self._square / self._n)
        last = self._last_sound_bin()
        n_absurd = int(self._frames[last + 1 :].sum())
        robust = self._rms_up_to(last)
        if not n_absurd or rms < _MOVED * robust:
            return ForceScale(rms, rms, 0, ())
        absurd = tuple(frame for frame in self._worst if _bin(np.array(frame.largest)) > last)
        return ForceScale(rms, robust, n_absurd, absurd)

    def _last_sound_bin(self) -> int:
        """Last bin of sound frames. From the bulk of the frames upwards, a frame is sound if it is within the multiple
        of the root mean square of the frames already known to be sound."""
        shares = np.cumsum(self._frames) / self._frames.sum()
        last = int(np.searchsorted(shares, _BULK))
        while True:
            reached = max(last, int(_bin(np.array(max(_LEAST, _MULTIPLE * self._rms_up_to(last))))))
            if reached == last:
                return last
            last = reached

    def _rms_up_to(self, last: int) -> float:
        n = self._components[: last + 1].sum()
        return math.sqrt(self._squares[: last + 1].sum() / n) if n else 0.0


def _bin(largest: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    octaves = np.log2(np.maximum(largest, 2.0**_LOWEST)) - _LOWEST
    return np.minimum(octaves * _BINS_PER_OCTAVE, (_HIGHEST - _LOWEST) * _BINS_PER_OCTAVE - 1).astype(np.int64)
