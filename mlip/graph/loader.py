"""The Grain pipeline: frames of a store -> shuffled -> graphs -> packed batches, while the device works.

The unit of work is a window of some thousand frames: read, made into graphs and dealt out to batches of nearly
equal size (`batching.deal`) by one thread or worker process. All is a pure function of the seed and the step,
so that a run resumes at the very next batch whatever the number of workers.
"""

import itertools
import math
import pickle
import weakref
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import grain
import jax
import jraph
import numpy as np
from absl import flags
from jaxtyping import Float, Int

from mlip.data.records import Frame
from mlip.data.store import Store
from mlip.errors import MlipError
from mlip.graph.batching import (
    Padding,
    Shape,
    ShapeLadder,
    deal,
    enlarge,
    graph_sizes,
    nothing_like,
    pad_batch,
    shape_of,
)
from mlip.graph.crystal import crystal_graph

WINDOW = 2048
"""Frames of a process that are dealt out at once: enough for batches of 32 to differ by a few per cent."""

_SAMPLE = 1024
"""Frames whose sizes decide on the shapes of batches."""

_NO_FRAME = -1


Gather = Callable[[Callable[[], Any]], list[Any]]
"""What a function gives in each process of a run; what JSON can hold. An error in one is raised in all."""


def _alone(compute: Callable[[], Any]) -> list[Any]:
    """`Gather` for one process."""
    return [compute()]


class BatchStatistics(NamedTuple):
    """What a step's batch holds, all its devices together."""

    n_graphs: int
    n_atoms: int
    n_edges: int
    shape: Shape
    """Of each device's part."""
    padding: Padding


class BuildsGraphs(Protocol):
    """Store index -> labelled graph, with `globals["frame"]` the index. Picklable: worker processes have one each."""

    store: Store

    def __call__(self, index: int) -> jraph.GraphsTuple: ...


@dataclass(frozen=True)
class GraphBuilder:
    """Graphs for potentials: `crystal_graph`, labelled with energy, forces and stress.

    Energies are less the reference energies; `globals["head"]` and `globals["factors"]` (on the weights of energy,
    forces and stress) are there where materials have them.
    """

    store: Store
    cutoff: float
    """A."""
    reference_energies: Float[np.ndarray, "*h 119"]
    """eV by atomic number, float64; with a row a head, if materials have heads."""
    dtype: type = np.float32
    head_of_material: Int[np.ndarray, " m"] | None = None
    factors_of_material: Float[np.ndarray, "m 3"] | None = None

    def __call__(self, index: int) -> jraph.GraphsTuple:
        frame, references = self.store.frame(index), self.reference_energies
        globals_ = {}
        if self.head_of_material is not None:
            globals_["head"] = self.head_of_material[[self.store.material_of(index)]]
            references = references[globals_["head"][0]]
        if self.factors_of_material is not None:
            globals_["factors"] = self.factors_of_material[[self.store.material_of(index)]].astype(self.dtype)
        try:
            graph = crystal_graph(frame, self.cutoff, dtype=self.dtype, reference_energies=references, index=index)
        except MlipError as error:
            raise MlipError(error.what, where=self._name(index, frame), fix=error.fix) from None
        return graph._replace(globals=graph.globals | globals_)

    def _name(self, index: int, frame: Frame) -> str:
        material = self.store.material(self.store.material_of(index)).id
        return f"{material}: calculation {frame.calculation}, step {frame.ionic_step} (frame {index} of the store)"


@dataclass(frozen=True)
class _WindowBuilder:
    """Indices of a window's frames -> its steps' batches, each with a leading axis of devices."""

    build_graph: BuildsGraphs
    nothing: jraph.GraphsTuple
    """A graph without atoms: for a device, or a process, that the last window leaves without structures."""
    ladder: ShapeLadder
    graphs_per_device: int
    n_devices: int

    def __call__(self, indices: Int[np.ndarray, " w"]) -> list[jraph.GraphsTuple]:
        n_steps = math.ceil(len(indices) / (self.graphs_per_device * self.n_devices))
        graphs = [self.build_graph(int(index)) for index in indices if index != _NO_FRAME]
        sizes = graph_sizes(graphs)
        return [
            self._batch(graphs, sizes, parts)
            for parts in _steps(deal(sizes, n_steps * self.n_devices), sizes, self.n_devices)
        ]

    def _batch(self, graphs, sizes, parts) -> jraph.GraphsTuple:
        n_node, n_edge = np.max([sizes[part].sum(0) for part in parts], axis=0).tolist()
        shape = self.ladder.smallest(n_node + 1, n_edge, max(map(len, parts)) + 1)
        padded = [pad_batch([graphs[i] for i in part] or [self.nothing], shape) for part in parts]
        if self.n_devices == 1:
            return jax.tree.map(lambda array: array[None], padded[0])
        return jax.tree.map(lambda *arrays: np.stack(arrays), *padded)


def _steps(batches: list[np.ndarray], sizes: np.ndarray, n_devices: int) -> list[list[np.ndarray]]:
    """Batches grouped into steps: one a device, equally full; steps in the order of their first frames."""
    by_load = sorted(batches, key=lambda batch: tuple(sizes[batch].sum(0)[::-1]))
    steps = [by_load[start : start + n_devices] for start in range(0, len(by_load), n_devices)]
    return sorted(steps, key=lambda step: min((int(batch[0]) for batch in step if len(batch)), default=len(sizes)))


@dataclass
class _Tally:
    """Running totals of what a loader gave."""

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
    """Endless iterator over (batch, BatchStatistics): epochs, each with every frame exactly once, reshuffled.

    A batch's arrays have a leading axis of this process's devices, all of one shape. Where frames don't fill
    the last steps of an epoch, its last window's structures are spread evenly over them, so no step is tiny.

    With several processes each takes every `process_count`-th frame of the common shuffle. Their steps are equal
    in number because the shuffled list is first filled up to a multiple of `process_count` with entries that
    stand for no frame. All run one program a step: once a window they tell one another the shapes of its batches,
    and each step takes the largest.

    Args:
        build_graph: the graph of a frame of the store; what it raises is raised while iterating.
        indices: the frames to learn from, by their index in the store.
        batch_size: structures a step, over all devices of all processes.
        n_devices: of this process.
        seed: of the shuffle; 32 bits.
        n_workers: processes that build graphs; 0: two threads of this process do.
        gather: with several processes, how they tell one another of shapes and errors.

    Raises:
        MlipError: no frames, or a batch size that the devices cannot share equally.
    """

    def __init__(
        self,
        build_graph: BuildsGraphs,
        indices: Int[np.ndarray, " k"],
        *,
        batch_size: int,
        n_devices: int = 1,
        seed: int = 0,
        n_workers: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        gather: Gather = _alone,
    ):
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) == 0:
            raise MlipError("no frames to train on", where=str(build_graph.store.path))
        if batch_size % (process_count * n_devices):
            raise MlipError(
                f"a batch of {batch_size} structures cannot be shared equally by {process_count * n_devices} devices",
                fix="make the batch size a multiple of the number of devices",
            )
        self._gather = gather
        self._n_workers = n_workers
        graphs_per_device = batch_size // (process_count * n_devices)
        per_step = graphs_per_device * n_devices
        share = math.ceil(len(indices) / process_count)
        self.steps_per_epoch = math.ceil(share / per_step)
        self._window_steps = min(max(1, WINDOW // per_step), self.steps_per_epoch)

        self.sizes = measure_sizes(build_graph, indices)
        """Atoms and edges of a sample of the frames, (k, 2)."""
        self.ladder = ShapeLadder.from_sizes(
            self.sizes, min(self._window_steps * per_step, share), self._window_steps * n_devices
        )
        nothing = nothing_like(build_graph(int(indices[0])))
        build_window = _WindowBuilder(build_graph, nothing, self.ladder, graphs_per_device, n_devices)
        frames = grain.MapDataset.source(_filled(indices, process_count)).shuffle(seed=seed)
        if process_count > 1:
            frames = frames.slice(slice(process_index, None, process_count))
        windows = frames.batch(self._window_steps * per_step, drop_remainder=False, batch_fn=np.array)
        self._windows_per_epoch = len(windows)
        self._windows = windows.map(build_window).repeat(None)
        self._plan = {
            "n_frames": len(indices),
            "frames_crc32": zlib.crc32(indices.tobytes()),
            "batch_size": batch_size,
            "n_devices": n_devices,
            "process_count": process_count,
            "seed": seed,
            "window": WINDOW,
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
        window, step_of_window = divmod(step_of_epoch, self._window_steps)
        windows = self._windows[epoch * self._windows_per_epoch + window :]
        self._stream = _prefetched(windows, self._n_workers)
        weakref.finalize(self, self._stream.close)  # also at exit, while Grain's modules are still there
        return itertools.islice(_batches(self._stream, self._gather), step_of_window, None)

    def close(self) -> None:
        """End the threads or worker processes; iterating further starts new ones."""
        if self._batches is not None:
            self._stream.close()
            self._batches = None

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to, from 0."""
        return self._step // self.steps_per_epoch

    @property
    def padded_fraction(self) -> Padding:
        """The padded share of all nodes and edges so far."""
        return self._tally.padded_fraction

    @property
    def shapes(self) -> set[Shape]:
        """The shapes of the batches so far: as many programs were compiled."""
        return set(self._tally.shapes)

    def get_state(self) -> dict[str, Any]:
        """Where the next batch is: JSON can hold it. Small, whatever the number of frames."""
        epoch, step = divmod(self._step, self.steps_per_epoch)
        return {"epoch": epoch, "step": step, "plan": self._plan}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `get_state` was called: the next batch is the very one that would have come.

        Raises:
            MlipError: the state is from the midst of an epoch over other frames or in other batches.
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
    """Iterable over (batch, BatchStatistics): every frame once, in an order that is always the same.

    Frames are dealt out within windows so that batches are equally full; `batch.globals["frame"]` tells which
    is which. Spare slots of the last batches are padding. Several processes share the frames and make equally many
    steps. Arguments as of `TrainingLoader`; `batch_size` is the largest number of structures a step.
    """

    def __init__(
        self,
        build_graph: BuildsGraphs,
        indices: Int[np.ndarray, " k"],
        *,
        batch_size: int,
        n_devices: int = 1,
        n_workers: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        gather: Gather = _alone,
    ):
        indices = np.asarray(indices, dtype=np.int64)
        self._n_workers, self._gather = n_workers, gather
        graphs_per_device = max(1, batch_size // (process_count * n_devices))
        per_step = graphs_per_device * n_devices
        share = math.ceil(len(indices) / process_count)
        self._n_steps = math.ceil(share / per_step)
        self._tally = _Tally()
        if len(indices) == 0:
            self._windows = grain.MapDataset.source([])
            return
        window_steps = min(max(1, WINDOW // per_step), self._n_steps)
        nothing = nothing_like(build_graph(int(indices[0])))
        sizes = measure_sizes(build_graph, indices)
        ladder = ShapeLadder.from_sizes(sizes, min(window_steps * per_step, share), window_steps * n_devices)
        self._windows = (
            grain.MapDataset.source(_filled(indices, process_count)[process_index::process_count])
            .batch(window_steps * per_step, drop_remainder=False, batch_fn=np.array)
            .map(_WindowBuilder(build_graph, nothing, ladder, graphs_per_device, n_devices))
        )

    def __len__(self) -> int:
        """Steps."""
        return self._n_steps

    def __iter__(self) -> Iterator[tuple[jraph.GraphsTuple, BatchStatistics]]:
        for batch in _batches(_prefetched(self._windows, self._n_workers), self._gather):
            yield batch, self._tally.add(batch)


def measure_sizes(build_graph: BuildsGraphs, indices: Int[np.ndarray, " k"]) -> Int[np.ndarray, "s 2"]:
    """Atoms and edges of at most 1024 of the frames, evenly spread: what shapes and mean neighbours come from."""
    places = np.unique(np.linspace(0, len(indices) - 1, min(_SAMPLE, len(indices))).astype(np.int64))
    return graph_sizes([build_graph(int(indices[place])) for place in places])


def _filled(indices: Int[np.ndarray, " k"], process_count: int) -> Int[np.ndarray, " f"]:
    """As many for each process: with entries that stand for no frame."""
    return np.concatenate([indices, np.full(-len(indices) % process_count, _NO_FRAME)])


class _Window(NamedTuple):
    """The batches of some steps, and their shapes, which are there before the batches are."""

    shapes: list[Shape]
    batches: Iterable[jraph.GraphsTuple]


def _batches(windows: Iterator[_Window], gather: Gather) -> Iterator[jraph.GraphsTuple]:
    """The windows' batches, each as large as the largest that any process has at this step."""
    arrived: list[_Window] = []

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


def _prefetched(windows: grain.MapDataset, n_workers: int) -> Generator[_Window]:
    """The windows in order, built ahead of time by threads or by worker processes."""
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


def _as_window(batches: list[jraph.GraphsTuple]) -> _Window:
    return _Window([shape_of(batch) for batch in batches], batches)


def _pickled(batches: list[jraph.GraphsTuple]) -> tuple[list[Shape], list[bytes]]:
    """For the way out of a worker: Grain would open a shared memory file for each of a thousand arrays."""
    shapes, batches = _as_window(batches)
    return shapes, [pickle.dumps(batch, protocol=pickle.HIGHEST_PROTOCOL) for batch in batches]


def _unpickled(window: tuple[list[Shape], list[bytes]]) -> _Window:
    """One batch at a time: a window of them is large."""
    return _Window(window[0], map(pickle.loads, window[1]))
