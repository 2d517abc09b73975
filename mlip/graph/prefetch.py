"""Windows of batches built ahead of time by Grain, in threads or in worker processes, and in the processes of a run
agreed upon."""

import itertools
import pickle
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

import grain
import jraph
from absl import flags

from mlip.graph.batching import Shape, enlarge, shape_of

Gather = Callable[[Callable[[], Any]], list[Any]]
"""Collects what a function gives in each process of a run, which JSON can hold. An error in one is raised in all."""


def alone(compute: Callable[[], Any]) -> list[Any]:
    """`Gather` for one process."""
    return [compute()]


class ReadyWindow(NamedTuple):
    """The batches of some steps, and their shapes, which are there before the batches are."""

    shapes: list[Shape]
    batches: Iterable[jraph.GraphsTuple]


def prefetched(windows: grain.MapDataset, n_workers: int) -> Generator[ReadyWindow]:
    """The windows in order, built ahead of time by worker processes; without any, by two threads."""
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
    """The windows' batches, each as large as the largest that any process has at this step."""
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
    """For the way out of a worker: Grain would open a shared memory file for each of a thousand arrays."""
    shapes, batches = _as_window(batches)
    return shapes, [pickle.dumps(batch, protocol=pickle.HIGHEST_PROTOCOL) for batch in batches]


def _unpickled(window: tuple[list[Shape], list[bytes]]) -> ReadyWindow:
    """One batch at a time: a window of them is large."""
    return ReadyWindow(window[0], map(pickle.loads, window[1]))
