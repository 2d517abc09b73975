"""Order of the frames in a run: a pure function of the seed and the position in the run, in O(1) memory.

Frames may be shuffled in blocks of neighbors, which are read from the store at once; the loader mixes the blocks of a
window. With several weighted sources, each is traversed repeatedly at its own rate, without repetition within a pass.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mlip.graph.shuffle import shuffled_blocks


class FrameRuns:
    """Frame indices stored as runs of consecutive integers: a few MB for 10^8 ascending indices split by material.

    Indices in another order are supported, but take more space.
    """

    def __init__(self, indices: Int[np.ndarray, " k"]):
        indices = np.asarray(indices, np.int64)
        first = np.flatnonzero(np.diff(indices, prepend=-2) != 1)
        self._starts = first
        self._offsets = indices[first] - first
        self._n = len(indices)
        self.crc32 = zlib.crc32(indices.tobytes())
        """Checksum that distinguishes lists of frames."""

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, places: Int[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
        """Indices at these positions of the list."""
        return places + self._offsets[np.searchsorted(self._starts, places, side="right") - 1]


class Source(NamedTuple):
    """Frames with a weight that determines their share of an epoch."""

    indices: Int[np.ndarray, " k"]
    weight: float
    """Weight relative to the sum over all sources."""


class EpochOrder:
    """Order of the frames in each epoch.

    By default an epoch of a single source has every frame exactly once. With several sources, each has a fixed number
    of frames per epoch. A source continues where the previous epoch ended, and no frame recurs before all frames of its
    source have been used.

    Args:
        n_frames: number of frames per epoch; by default the total of the sources.
        block: number of neighboring frames of a source that stay together; 1 shuffles single frames.
    """

    def __init__(self, sources: Sequence[Source], *, seed: int, n_frames: int | None = None, block: int = 1):
        self._runs = [FrameRuns(source.indices) for source in sources]
        self.n_frames = sum(map(len, self._runs)) if n_frames is None else n_frames
        """Number of frames per epoch."""
        self.counts = _apportioned(self.n_frames, np.array([source.weight for source in sources], np.float64))
        """Number of frames per epoch from each source."""
        self._seed, self._block = seed, block

    @property
    def plan(self) -> dict[str, list[int] | int]:
        """All parameters that determine the order; JSON-serializable."""
        return {
            "n_frames": self.n_frames,
            "frames_crc32": [runs.crc32 for runs in self._runs],
            "frames_of_sources": self.counts.tolist(),
            "seed": self._seed,
            "block": self._block,
        }

    def frames(self, epoch: int, places: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Store indices of the frames at these positions of an epoch."""
        ends = np.cumsum(self.counts)
        drawn = shuffled_blocks(places, self.n_frames, self._block, (self._seed, epoch))
        source_of = np.searchsorted(ends, drawn, side="right")
        found = np.empty_like(drawn)
        for s, runs in enumerate(self._runs):
            mine = np.flatnonzero(source_of == s)
            count = int(self.counts[s])
            found[mine] = self._of_source(s, runs, epoch * count + drawn[mine] - (ends[s] - count))
        return found

    def _of_source(self, s: int, runs: FrameRuns, draws: Int[np.ndarray, " d"]) -> Int[np.ndarray, " d"]:
        """Frames at these draws from a source, counted from the beginning of the run."""
        found = np.empty_like(draws)
        passes, places = np.divmod(draws, max(1, len(runs)))
        for number in np.unique(passes).tolist():
            mine = passes == number
            found[mine] = runs[shuffled_blocks(places[mine], len(runs), self._block, (self._seed, number, s + 1))]
        return found


def _apportioned(total: int, weights: Float[np.ndarray, " s"]) -> Int[np.ndarray, " s"]:
    """Integers with the given total in the ratio of the weights, by the method of largest remainders."""
    exact = total * weights / weights.sum()
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return counts


class Windows(NamedTuple):
    """An epoch divided into windows, each window into shares of the processes, and each share into steps.

    A window has the same number of steps in all processes; shares differ by at most one frame.
    """

    n_frames: int
    """Number of frames per epoch."""
    batch_size: int
    """Structures per step, over all processes."""
    steps: int
    """Number of steps per window; the last window may have fewer."""
    process_index: int = 0
    process_count: int = 1

    @property
    def n_windows(self) -> int:
        """Number of windows per epoch."""
        return -(-self.n_frames // (self.steps * self.batch_size))

    @property
    def steps_per_epoch(self) -> int:
        if self.n_frames == 0:
            return 0
        return (self.n_windows - 1) * self.steps + self.share(self.n_windows - 1)[2]

    def share(self, window: int) -> tuple[int, int, int]:
        """Share of this process: first position in the epoch, the one after the last, and the number of steps."""
        first = window * self.steps * self.batch_size
        length = min(self.n_frames - first, self.steps * self.batch_size)
        cuts = [first + length * process // self.process_count for process in range(self.process_count + 1)]
        largest = -(-length // self.process_count)
        n_steps = -(-largest * self.process_count // self.batch_size)
        return cuts[self.process_index], cuts[self.process_index + 1], n_steps
