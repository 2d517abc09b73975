"""Windows: several thousand frames that one thread or worker converts to graphs and deals to equal batches."""

from dataclasses import dataclass

import jax
import jraph
import numpy as np
from jaxtyping import Int

from mlip.graph.batching import ShapeLadder, deal, graph_sizes, pad_batch
from mlip.graph.labeled_graphs import LabeledGraphs
from mlip.graph.order import EpochOrder, Windows

WINDOW = 4096
"""Number of frames per process that are dealt at once: enough for batches of 32 to differ by a few percent."""

_SAMPLE = 1024
"""Number of frames whose sizes determine the shapes of batches."""

_COUNTED = 32768
"""Number of frames whose atoms are counted to find a sample with a representative share of large ones."""


@dataclass(frozen=True)
class BatchMaker:
    """Converts frames to the batches of several steps, each with a leading axis of devices."""

    build_graphs: LabeledGraphs
    nothing: jraph.GraphsTuple
    """Graph without atoms, for a device or process that gets no structures in the last window."""
    ladder: ShapeLadder
    n_devices: int

    def __call__(
        self, indices: Int[np.ndarray, " w"], n_steps: int, rng: np.random.Generator | None = None
    ) -> list[jraph.GraphsTuple]:
        """Batches of `n_steps` steps from these frames; for `rng` see `deal`."""
        graphs = self.build_graphs(indices)
        sizes = graph_sizes(graphs)
        return [
            self._batch(graphs, sizes, parts)
            for parts in _steps(deal(sizes, n_steps * self.n_devices, rng), sizes, self.n_devices)
        ]

    def _batch(self, graphs, sizes, parts) -> jraph.GraphsTuple:
        n_node, n_edge, *n_pair = np.max([sizes[part].sum(0) for part in parts], axis=0).tolist()
        shape = self.ladder.smallest(n_node + 1, n_edge, max(map(len, parts)) + 1, *n_pair)
        padded = [pad_batch([graphs[i] for i in part] or [self.nothing], shape) for part in parts]
        if self.n_devices == 1:
            return jax.tree.map(lambda array: array[None], padded[0])
        return jax.tree.map(lambda *arrays: np.stack(arrays), *padded)


def _steps(batches: list[np.ndarray], sizes: np.ndarray, n_devices: int) -> list[list[np.ndarray]]:
    """Batches grouped into steps, one per device and equally full; steps are sorted by their first frame."""
    by_load = sorted(batches, key=lambda batch: tuple(sizes[batch].sum(0)[::-1]))
    steps = [by_load[start : start + n_devices] for start in range(0, len(by_load), n_devices)]
    return sorted(steps, key=lambda step: min((int(batch[0]) for batch in step if len(batch)), default=len(sizes)))


@dataclass(frozen=True)
class TrainingWindow:
    """Maps the number of a window, counted from the beginning of the run, to its batches."""

    make_batches: BatchMaker
    order: EpochOrder
    windows: Windows
    seed: int

    def __call__(self, number: int) -> list[jraph.GraphsTuple]:
        epoch, window = divmod(int(number), self.windows.n_windows)
        first, last, n_steps = self.windows.share(window)
        rng = np.random.default_rng((self.seed, epoch, first))
        places = first + rng.permutation(last - first)
        return self.make_batches(self.order.frames(epoch, places), n_steps, rng)


@dataclass(frozen=True)
class EvaluationWindow:
    """Maps the number of a window to its batches."""

    make_batches: BatchMaker
    indices: Int[np.ndarray, " k"]
    windows: Windows

    def __call__(self, number: int) -> list[jraph.GraphsTuple]:
        first, last, n_steps = self.windows.share(int(number))
        return self.make_batches(self.indices[first:last], n_steps)


def measure_sizes(build_graphs: LabeledGraphs, indices: Int[np.ndarray, " k"]) -> Int[np.ndarray, "s c"]:
    """Atoms and edges (and bond pairs) of at most 1024 of the frames, from which shapes and mean neighbors are derived.

    The sample is evenly spread over the frames sorted by number of atoms, so that its mean is off by one percent,
    compared with four for a random sample.
    """
    by_size = indices[np.argsort(build_graphs.store.n_atoms_of(indices), kind="stable")]
    return graph_sizes(build_graphs(by_size[_evenly_spread(len(indices), _SAMPLE)]))


def to_be_counted(n: int) -> Int[np.ndarray, " s"]:
    """Positions of the candidates for `measure_sizes` among n frames."""
    return _evenly_spread(n, _COUNTED)


def _evenly_spread(n: int, most: int) -> Int[np.ndarray, " s"]:
    """Midpoints of equal parts of 0..n-1, so that the largest frame is not over-represented."""
    n_parts = min(most, n)
    return (2 * np.arange(n_parts) + 1) * n // (2 * n_parts)
