"""The root mean square of forces, without the few frames whose absurd forces would make it: in one streaming pass.

Sound sets have tails, too: of MPtrj and of relaxations the largest component is 60 to 90 times the root mean square.
Frames are absurd if their largest component is beyond that, and only if they move the root mean square, so that sound
data keep theirs to the last digit, and two frames of 16,000 eV/A among 3,341 no longer make 258 of 0.4 eV/A.
"""

import heapq
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

_MULTIPLE = 100.0
"""Multiple of the other frames' root mean square that no component of a sound frame exceeds."""
_LEAST = 20.0
"""eV/A; no frame with less is absurd (the limit of the paper's rules for 2D materials)."""
_MOVED = 1.1
"""Factor on the root mean square from which absurd frames count as moving it."""
_BULK = 0.75
"""Share of the frames, those of the smallest forces, from which the search begins."""
_BINS_PER_OCTAVE = 8
_LOWEST, _HIGHEST = -40, 64
"""Octaves of the largest component, eV/A."""
_NAMED = 20


class AbsurdFrame(NamedTuple):
    """A frame that is left out of the scale."""

    index: int
    """Among the frames of the pass."""
    largest: float
    """Its largest force component, eV/A."""


class ForceScale(NamedTuple):
    """Result of a pass."""

    rms: float
    """Root mean square of the components of all frames, eV/A; NaN without forces."""
    robust_rms: float
    """Root mean square over the frames that are not absurd; `rms` itself if none is."""
    n_absurd: int
    absurd: tuple[AbsurdFrame, ...]
    """The worst of them."""


class ForceSums:
    """Sums of the pass: squares and numbers of components, by the size of the frame's largest component."""

    def __init__(self) -> None:
        n_bins = (_HIGHEST - _LOWEST) * _BINS_PER_OCTAVE
        self._frames, self._components = np.zeros(n_bins, np.int64), np.zeros(n_bins, np.int64)
        self._squares = np.zeros(n_bins)
        self._square, self._n, self._n_frames = 0.0, 0, 0
        self._worst: list[AbsurdFrame] = []

    def add(self, force: Float[np.ndarray, "n 3"], size: Int[np.ndarray, " k"]) -> None:
        """The forces of a block of frames, eV/A; `size`: atoms of each. NaN = missing."""
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
        """Scale of all that was added."""
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
        """From the bulk of the frames upwards: what is within the multiple of what is already sound is sound."""
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
