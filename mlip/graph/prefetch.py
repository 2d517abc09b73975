"""Windows of batches that Grain builds ahead of time in threads or worker processes, with shapes agreed among the
processes of a run."""

import itertools
import pickle
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

import grain
import jraph
from absl import flags

from mlip.data.workers import end_with_parent
from mlip.graph.batching import Shape, enlarge, shape_of

Gather = Callable[[Callable[[], Any]], list[Any]]
"""Type of functions that collect the JSON-serializable result of a function from all processes of a run. An error in
one process is raised in all."""


def alone(compute: Callable[[], Any]) -> list[Any]:
    """Implementation of `Gather` for a single process."""
    return [compute()]


class ReadyWindow(NamedTuple):
    """Batches of several steps, with their shapes, which are available before the batches are."""

    shapes: list[Shape]
    batches: Iterable[jraph.GraphsTuple]


def prefetched(windows: grain.MapDataset, n_workers: int) -> Generator[ReadyWindow]:
    """Windows in order, built ahead of time by worker processes, or by two threads if there are no workers."""
    if n_workers == 0:
        dataset = windows.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=2))
        restore = _as_window
    else:
        if not flags.FLAGS.is_parsed():  # Grain's workers read its absl flags, which only an absl app parses
            flags.FLAGS.mark_as_parsed()
        dataset = windows.map(_pickled).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=n_workers, per_worker_buffer_size=1))
        dataset = grain.experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=1)
        restore = _unpickled
    iterator = iter(dataset)
    try:
        yield from map(restore, iterator)
    finally:
        iterator.close()


def batches_of(windows: Iterator[ReadyWindow], gather: Gather) -> Iterator[jraph.GraphsTuple]:
    """Batches of the windows, each enlarged to the largest shape in any process at this step."""
    arrived: list[ReadyWindow] = []

    def shapes_of_next() -> list[Shape]:
        arrived[:] = itertools.islice(windows, 1)
        return arrived[0].shapes if arrived else []

    while True:
        shapes = gather(shapes_of_next)
        if not arrived:
            return
        for batch, *found in zip(arrived[0].batches, *shapes, strict=True):
            shape = Shape(*map(max, zip(*found, strict=True)))
            yield batch if shape == shape_of(batch) else enlarge(batch, shape)


def _as_window(batches: list[jraph.GraphsTuple]) -> ReadyWindow:
    return ReadyWindow([shape_of(batch) for batch in batches], batches)


def _pickled(batches: list[jraph.GraphsTuple]) -> tuple[list[Shape], list[bytes]]:
    """Shapes and pickled batches, for sending from a worker: Grain would open a shared memory file for each of a
    thousand arrays. The worker ends with its parent from then on, which Grain leaves to the parent."""
    end_with_parent()
    shapes, batches = _as_window(batches)
    return shapes, [pickle.dumps(batch, protocol=pickle.HIGHEST_PROTOCOL) for batch in batches]


def _unpickled(window: tuple[list[Shape], list[bytes]]) -> ReadyWindow:
    """Window whose batches are unpickled one at a time, because a whole window is large."""
    return ReadyWindow(window[0], map(pickle.loads, window[1]))
