"""Data loader: reads and shuffles frames of a store, builds graphs and packs them into batches while the device works.

The unit of work is a window of several thousand frames, which one thread or worker process reads, converts to graphs
and deals to batches of nearly equal size (`graph.window`, `graph.prefetch`). The result depends only on the seed and
the step (`graph.order`), so that a run resumes at exactly the next batch for any number of workers.
"""

import itertools
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grain
import jraph
import numpy as np
from jaxtyping import Int

from mlip.errors import MlipError
from mlip.graph import window
from mlip.graph.batching import Padding, Shape, ShapeLadder, nothing_like, shape_of
from mlip.graph.labeled_graphs import LabeledGraphs
from mlip.graph.order import EpochOrder, Source, Windows
from mlip.graph.prefetch import Gather, alone, batches_of, prefetched
from mlip.graph.window import BatchMaker, EvaluationWindow, TrainingWindow, measure_sizes, to_be_counted

_ENDLESS = 1 << 40
"""Number of windows in the stream, larger than in any run."""


class BatchStatistics(NamedTuple):
    """Content of one step's batch, over all devices."""

    n_graphs: int
    n_atoms: int
    n_edges: int
    shape: Shape
    """Shape of the part for each device."""
    padding: Padding


@dataclass
class _Tally:
    """Running totals over the batches of a loader."""

    shapes: set[Shape] = field(default_factory=set)
    padded: np.ndarray = field(default_factory=lambda: np.zeros(2))
    slots: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def add(self, batch: jraph.GraphsTuple) -> BatchStatistics:
        shape = shape_of(batch)
        slots = np.array([batch.nodes["species"].size, batch.senders.size])
        padded = np.array([batch.n_node[..., -1].sum(), batch.n_edge[..., -1].sum()])
        self.shapes.add(shape)
        self.slots += slots
        self.padded += padded
        n_atoms, n_edges = (slots - padded).tolist()
        n_graphs = int((batch.n_node[..., :-1] > 0).sum())
        return BatchStatistics(n_graphs, n_atoms, n_edges, shape, Padding(*(padded / np.maximum(slots, 1)).tolist()))

    @property
    def padded_fraction(self) -> Padding:
        return Padding(*(self.padded / np.maximum(self.slots, 1)).tolist())


class TrainingLoader:
    """Endless iterator over (batch, BatchStatistics). Each epoch is reshuffled and, by default, has every frame exactly
    once.

    Several sources share an epoch by weight; see `EpochOrder`.

    The arrays of a batch have a leading axis over the devices of this process, which all have the same shape. If frames
    do not fill the last steps of an epoch, the structures of its last window are spread evenly over them, so that no
    step is tiny.

    With several processes, each takes its share of every window of the common order, so that all make equally many
    steps. They run the same program in each step: once per window they exchange the shapes of its batches, and each
    step uses the largest.

    Args:
        build_graphs: builds the graphs of frames of the store; its errors are raised during iteration.
        frames: indices of the training frames in the store, or several sources of them.
        batch_size: structures per step, over all devices of all processes.
        n_frames: number of frames per epoch; by default the total of the sources.
        n_devices: number of devices of this process.
        seed: 32-bit seed of the shuffle.
        block: number of neighboring frames in the store that are read together and then mixed with other such blocks.
        n_workers: number of processes that build graphs; with 0, two threads of this process build them.
        gather: with several processes, exchanges shapes and errors among them.

    Raises:
        MlipError: there are no frames, or the batch size is not a multiple of the number of devices.
    """

    def __init__(
        self,
        build_graphs: LabeledGraphs,
        frames: Int[np.ndarray, " k"] | Sequence[Source],
        *,
        batch_size: int,
        n_frames: int | None = None,
        n_devices: int = 1,
        seed: int = 0,
        block: int = 1,
        n_workers: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        gather: Gather = alone,
    ):
        sources = [Source(frames, 1.0)] if isinstance(frames, np.ndarray) else frames
        if not all(len(source.indices) for source in sources):
            raise MlipError("no frames to train on", where=str(build_graphs.store.path))
        if batch_size % (process_count * n_devices):
            raise MlipError(
                f"a batch of {batch_size} structures cannot be shared equally by {process_count * n_devices} devices",
                fix="make the batch size a multiple of the number of devices",
            )
        self._gather = gather
        self._n_workers = n_workers
        order = EpochOrder(sources, seed=seed, n_frames=n_frames, block=block)
        self._windows = _windows(order.n_frames, batch_size, process_index, process_count)
        self.steps_per_epoch = self._windows.steps_per_epoch

        sample = order.frames(0, to_be_counted(order.n_frames))
        self.sizes = measure_sizes(build_graphs, sample)
        """Atoms and edges, and bond pairs if present, for a sample of the frames, (k, 2) or (k, 3)."""
        self.ladder = _ladder(self.sizes, self._windows, n_devices)
        make_batches = BatchMaker(build_graphs, nothing_like(build_graphs(sample[:1])[0]), self.ladder, n_devices)
        self._make_window = TrainingWindow(make_batches, order, self._windows, seed)
        self._plan = order.plan | {
            "batch_size": batch_size,
            "n_devices": n_devices,
            "process_count": process_count,
            "window": window.WINDOW,
        }
        self._step = 0
        self._batches: Iterator[jraph.GraphsTuple] | None = None
        self._tally = _Tally()

    def __iter__(self) -> "TrainingLoader":
        return self

    def __next__(self) -> tuple[jraph.GraphsTuple, BatchStatistics]:
        if self._batches is None:
            self._batches = self._batches_from(self._step)
        batch = next(self._batches)
        self._step += 1
        return batch, self._tally.add(batch)

    def _batches_from(self, step: int) -> Iterator[jraph.GraphsTuple]:
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        number, step_of_window = divmod(step_of_epoch, self._windows.steps)
        numbers = grain.MapDataset.range(epoch * self._windows.n_windows + number, _ENDLESS)
        self._stream = prefetched(numbers.map(self._make_window), self._n_workers)
        weakref.finalize(self, self._stream.close)  # also at exit, while Grain's modules still exist
        return itertools.islice(batches_of(self._stream, self._gather), step_of_window, None)

    def close(self) -> None:
        """Stop the threads or worker processes; further iteration starts new ones."""
        if self._batches is not None:
            self._stream.close()
            self._batches = None

    @property
    def epoch(self) -> int:
        """Epoch of the next batch, starting at 0."""
        return self._step // self.steps_per_epoch

    @property
    def padded_fraction(self) -> Padding:
        """Padding as a fraction of all nodes and edges so far."""
        return self._tally.padded_fraction

    @property
    def shapes(self) -> set[Shape]:
        """Shapes of the batches so far; each needed a compiled program."""
        return set(self._tally.shapes)

    def get_state(self) -> dict[str, Any]:
        """State that identifies the next batch; JSON-serializable and small for any number of frames."""
        epoch, step = divmod(self._step, self.steps_per_epoch)
        return {"epoch": epoch, "step": step, "plan": self._plan}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `get_state` was called, with exactly the batch that would have followed.

        Raises:
            MlipError: the state is from within an epoch with other frames or other batch settings.
        """
        differing = [key for key, value in self._plan.items() if state["plan"].get(key) != value]
        if differing and state["step"] != 0:
            raise MlipError(
                f"cannot resume in the midst of an epoch: {', '.join(differing)} changed since",
                fix="resume with the same data, batch size, seed and devices, or from the end of an epoch",
            )
        self._step = state["epoch"] * self.steps_per_epoch + state["step"]
        self.close()


class EvaluationLoader:
    """Iterable over (batch, BatchStatistics) with every frame once, in a fixed order.

    Frames are dealt within windows so that batches are equally full; `batch.globals["frame"]` identifies them. Unused
    slots of the last batches are padding. Several processes share the frames and make equally many steps. For arguments
    see `TrainingLoader`; `batch_size` is the largest number of structures per step.
    """

    def __init__(
        self,
        build_graphs: LabeledGraphs,
        indices: Int[np.ndarray, " k"],
        *,
        batch_size: int,
        n_devices: int = 1,
        n_workers: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        gather: Gather = alone,
    ):
        indices = np.asarray(indices, dtype=np.int64)
        self._n_workers, self._gather = n_workers, gather
        n_shares = process_count * n_devices
        windows = _windows(len(indices), max(1, batch_size // n_shares) * n_shares, process_index, process_count)
        self._n_steps = windows.steps_per_epoch
        self._tally = _Tally()
        self._windows = grain.MapDataset.range(windows.n_windows)
        if len(indices):
            ladder = _ladder(measure_sizes(build_graphs, indices[to_be_counted(len(indices))]), windows, n_devices)
            make_batches = BatchMaker(build_graphs, nothing_like(build_graphs(indices[:1])[0]), ladder, n_devices)
            self._windows = self._windows.map(EvaluationWindow(make_batches, indices, windows))

    def __len__(self) -> int:
        """Number of steps."""
        return self._n_steps

    def __iter__(self) -> Iterator[tuple[jraph.GraphsTuple, BatchStatistics]]:
        for batch in batches_of(prefetched(self._windows, self._n_workers), self._gather):
            yield batch, self._tally.add(batch)


def _windows(n_frames: int, batch_size: int, process_index: int, process_count: int) -> Windows:
    """Windows of an epoch with about `WINDOW` frames per process."""
    most = max(1, -(-n_frames // batch_size))
    steps = min(max(1, window.WINDOW * process_count // batch_size), most)
    return Windows(n_frames, batch_size, steps, process_index, process_count)


def _ladder(sizes: Int[np.ndarray, "s c"], windows: Windows, n_devices: int) -> ShapeLadder:
    """Ladder of shapes for the batches of a whole window."""
    n_graphs = min(windows.steps * windows.batch_size, windows.n_frames)
    return ShapeLadder.from_sizes(sizes, -(-n_graphs // windows.process_count), windows.steps * n_devices)
