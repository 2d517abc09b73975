"""In which order a run sees its frames: a pure function of the seed and the place in the run, in O(1) memory.

Frames may be shuffled in blocks of neighbors, which a store reads at once; the loader mixes the blocks of a window.
Sources may have shares: then each is gone through without repetition, again and again, at a pace of its own.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mlip.graph.shuffle import shuffled_blocks


class FrameRuns:
    """Ascending frame indices as runs of consecutive ones: of 10^8 frames split by material, some MB.

    Indices in another order are kept as they are, only in more space.
    """

    def __init__(self, indices: Int[np.ndarray, " k"]):
        indices = np.asarray(indices, np.int64)
        first = np.flatnonzero(np.diff(indices, prepend=-2) != 1)
        self._starts = first
        self._offsets = indices[first] - first
        self._n = len(indices)
        self.crc32 = zlib.crc32(indices.tobytes())
        """Tells lists of frames apart."""

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, places: Int[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
        """The indices at these places of the list."""
        return places + self._offsets[np.searchsorted(self._starts, places, side="right") - 1]


class Source(NamedTuple):
    """Frames with a share of an epoch."""

    indices: Int[np.ndarray, " k"]
    weight: float
    """Its share is this among the weights of all sources."""


class EpochOrder:
    """The frames of each epoch in their order.

    By default an epoch of a single source has every frame exactly once. Of several each has its share, the same number
    in every epoch: it goes on through the source where the last epoch ended, and no frame comes again before all of
    its source have come.

    Args:
        n_frames: of an epoch; by default as many as there are.
        block: frames that stay together, neighbors in the source; 1 = each goes its own way.
    """

    def __init__(self, sources: Sequence[Source], *, seed: int, n_frames: int | None = None, block: int = 1):
        self._runs = [FrameRuns(source.indices) for source in sources]
        self.n_frames = sum(map(len, self._runs)) if n_frames is None else n_frames
        """Number of frames of an epoch."""
        self.counts = _apportioned(self.n_frames, np.array([source.weight for source in sources], np.float64))
        """How many of them are from each source."""
        self._seed, self._block = seed, block

    @property
    def plan(self) -> dict[str, list[int] | int]:
        """Everything that the order depends on; JSON can hold it."""
        return {
            "n_frames": self.n_frames,
            "frames_crc32": [runs.crc32 for runs in self._runs],
            "frames_of_sources": self.counts.tolist(),
            "seed": self._seed,
            "block": self._block,
        }

    def frames(self, epoch: int, places: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Store indices of the frames at these places of an epoch."""
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
        """Frames that the source gives at these of its draws, counted from the begin of the run."""
        found = np.empty_like(draws)
        passes, places = np.divmod(draws, max(1, len(runs)))
        for number in np.unique(passes).tolist():
            mine = passes == number
            found[mine] = runs[shuffled_blocks(places[mine], len(runs), self._block, (self._seed, number, s + 1))]
        return found


def _apportioned(total: int, weights: Float[np.ndarray, " s"]) -> Int[np.ndarray, " s"]:
    """The total in whole numbers in the ratio of the weights: largest remainders."""
    exact = total * weights / weights.sum()
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return counts


class Windows(NamedTuple):
    """An epoch cut into windows, a window into the shares of processes, a share into steps.

    In all processes a window has equally many steps; shares differ by one frame at most.
    """

    n_frames: int
    """Number of frames of an epoch."""
    batch_size: int
    """Structures a step, all processes together."""
    steps: int
    """Steps of a window; the last one may have fewer."""
    process_index: int = 0
    process_count: int = 1

    @property
    def n_windows(self) -> int:
        """Number of windows of an epoch."""
        return -(-self.n_frames // (self.steps * self.batch_size))

    @property
    def steps_per_epoch(self) -> int:
        if self.n_frames == 0:
            return 0
        return (self.n_windows - 1) * self.steps + self.share(self.n_windows - 1)[2]

    def share(self, window: int) -> tuple[int, int, int]:
        """This process's places in the epoch, from the first to the one after the last, and the number of steps."""
        first = window * self.steps * self.batch_size
        length = min(self.n_frames - first, self.steps * self.batch_size)
        cuts = [first + length * process // self.process_count for process in range(self.process_count + 1)]
        largest = -(-length // self.process_count)
        n_steps = -(-largest * self.process_count // self.batch_size)
        return cuts[self.process_index], cuts[self.process_index + 1], n_steps
