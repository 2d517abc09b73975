"""Windows: some thousand frames that one thread or worker makes into graphs and deals out to equal batches."""

from dataclasses import dataclass

import jax
import jraph
import numpy as np
from jaxtyping import Int

from mlip.graph.batching import ShapeLadder, deal, graph_sizes, pad_batch
from mlip.graph.labeled_graphs import LabeledGraphs
from mlip.graph.order import EpochOrder, Windows

WINDOW = 4096
"""Frames of a process that are dealt out at once: enough for batches of 32 to differ by a few per cent."""

_SAMPLE = 1024
"""Frames whose sizes decide on the shapes of batches."""

_COUNTED = 32768
"""Frames whose atoms are counted to find a sample with the right share of large ones."""


@dataclass(frozen=True)
class BatchMaker:
    """Frames -> batches of steps, each with a leading axis of devices."""

    build_graphs: LabeledGraphs
    nothing: jraph.GraphsTuple
    """A graph without atoms: for a device, or a process, that the last window leaves without structures."""
    ladder: ShapeLadder
    n_devices: int

    def __call__(
        self, indices: Int[np.ndarray, " w"], n_steps: int, rng: np.random.Generator | None = None
    ) -> list[jraph.GraphsTuple]:
        """`rng` as of `deal`."""
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
    """Batches grouped into steps: one a device, equally full; steps in the order of their first frames."""
    by_load = sorted(batches, key=lambda batch: tuple(sizes[batch].sum(0)[::-1]))
    steps = [by_load[start : start + n_devices] for start in range(0, len(by_load), n_devices)]
    return sorted(steps, key=lambda step: min((int(batch[0]) for batch in step if len(batch)), default=len(sizes)))


@dataclass(frozen=True)
class TrainingWindow:
    """The number of a window, counted from the begin of the run -> its batches."""

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
    """The number of a window -> its batches."""

    make_batches: BatchMaker
    indices: Int[np.ndarray, " k"]
    windows: Windows

    def __call__(self, number: int) -> list[jraph.GraphsTuple]:
        first, last, n_steps = self.windows.share(int(number))
        return self.make_batches(self.indices[first:last], n_steps)


def measure_sizes(build_graphs: LabeledGraphs, indices: Int[np.ndarray, " k"]) -> Int[np.ndarray, "s c"]:
    """Atoms and edges (and bond pairs) of at most 1024 of the frames: what shapes and mean neighbors come from.

    They are evenly spread over the frames sorted by their atoms, so that their mean is off by one per cent where that
    of a random sample is by four.
    """
    by_size = indices[np.argsort(build_graphs.store.n_atoms_of(indices), kind="stable")]
    return graph_sizes(build_graphs(by_size[_evenly_spread(len(indices), _SAMPLE)]))


def to_be_counted(n: int) -> Int[np.ndarray, " s"]:
    """Places of frames for `measure_sizes` to choose from, if there are n."""
    return _evenly_spread(n, _COUNTED)


def _evenly_spread(n: int, most: int) -> Int[np.ndarray, " s"]:
    """The middles of equal parts, so that the largest of all counts no more than its share."""
    n_parts = min(most, n)
    return (2 * np.arange(n_parts) + 1) * n // (2 * n_parts)
