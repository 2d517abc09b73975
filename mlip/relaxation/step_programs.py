"""Programs that step batches, one per array shape: the choice of shapes, and whether they fit into memory.

XLA compiles for seconds what runs for milliseconds. A batch therefore uses a larger existing shape, until the padding
that some smaller shape would have saved in all batches so far has cost as much as compiling it; then it is compiled.
Padding and compilations thus take about equal time, whatever follows (the ski rental problem).
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count, takewhile
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jax.errors import JaxRuntimeError

from mlip.devices import Turn
from mlip.graph.batching import Shape, fits
from mlip.hardware import hardware
from mlip.programs import registry
from mlip.relaxation.batch import State, advance
from mlip.relaxation.memory import Room, available_memory
from mlip.runtime import precision_scope

_ROOM = Room()
"""Host memory shared by the batches of all threads; on a CPU each core evaluates one at a time."""


class OutOfMemoryError(Exception):
    """A batch does not fit into the device's memory."""


class Call(NamedTuple):
    """Result of one call of the device."""

    state: State
    """Final state, on the host."""
    n_evaluations: int
    started: float
    ended: float
    """Times from `time.perf_counter`, excluding compilation and packing."""
    compile_seconds: float


class Programs:
    """Programs of one model in one precision. Threads may share them; the choice of shapes then depends on who asks
    first."""

    def __init__(self, model: nn.Module, dtype: str):
        self._model, self._dtype = model, dtype
        self._hardware = hardware()
        self._too_large = math.inf
        """Edges of the smallest shape that did not fit into memory."""
        self._lock = threading.RLock()
        self._shapes: list[Shape] = []
        self._n_bytes: dict[Shape, int] = {}
        """Host memory that a program uses while running, bytes."""
        self._savings: Counter[Shape] = Counter()
        """What each shape that is not compiled would have saved since the last one was chosen, in edges."""

    @property
    def budget(self) -> int:
        """Number of edges in the largest batch, unless a single structure has more."""
        return self._hardware.largest_relaxation

    def stay_below(self, shape: Shape) -> None:
        """Limit batches to half the size of this shape, which did not fit into memory."""
        with self._lock:
            self._too_large = min(self._too_large, shape.n_edge)
            largest = max(min(self._hardware.largest_relaxation, shape.n_edge // 2), 1)
            smallest = min(self._hardware.smallest_relaxation, largest)
            self._hardware = replace(self._hardware, largest_relaxation=largest, smallest_relaxation=smallest)
            self._shapes = [other for other in self._shapes if other.n_edge < shape.n_edge]

    def room(self, n_edge: float = math.inf) -> Shape:
        """Size up to which a batch of about `n_edge` edges is filled; that of a compiled program if possible."""
        largest, smallest = self._hardware.largest_relaxation, self._hardware.smallest_relaxation
        size = 2 ** round(math.log2(min(max(n_edge, smallest), largest)))
        size = min((shape.n_edge for shape in self._shapes if size <= shape.n_edge <= largest), default=size)
        return Shape(size // 4, size, size // 8)

    def room_beside(self, needed: Shape) -> Shape:
        """Size up to which a batch is filled whose first structure exceeds the normal size; no further structures are
        added if that size did not fit into memory."""
        tight = self.tight(needed)
        return tight if tight.n_edge < self._too_large else needed

    def choose(self, needed: Shape) -> Shape:
        """Shape for a batch of this size: an existing one, or a new one that would have paid by now."""
        with self._lock:
            existing = min((shape for shape in self._shapes if fits(needed, shape)), key=_cost, default=None)
            if existing is None:
                return self._with(self.tight(needed))
            best = max(self._smaller(needed, existing), key=self._savings.__getitem__, default=existing)
            return self._with(best) if self._savings[best] >= self._hardware.relaxation_compilation else existing

    def _with(self, shape: Shape) -> Shape:
        """Add a shape. The others are compared with it from now on, so that their savings start anew."""
        self._shapes.append(shape)
        self._savings.clear()
        return shape

    def count_waste(self, needed: Shape, shape: Shape, n_evaluations: int) -> None:
        """Record the padding of a batch of size `needed` that was evaluated in `shape`."""
        with self._lock:
            for smaller in self._smaller(needed, shape):
                self._savings[smaller] += n_evaluations * (_cost(shape) - _cost(smaller))

    def _smaller(self, needed: Shape, shape: Shape) -> list[Shape]:
        """Shapes for a batch of size `needed` that cost less than `shape`."""
        sizes = takewhile(lambda other: other.n_edge <= shape.n_edge, self._sizes(needed))
        return [other for other in sizes if fits(needed, other) and _cost(other) < _cost(shape)]

    def _sizes(self, needed: Shape) -> Iterator[Shape]:
        return _family(max(self._hardware.smallest_relaxation, needed.n_edge))

    def tight(self, needed: Shape) -> Shape:
        """Smallest shape for a batch of this size, compiled or not."""
        return next(shape for shape in self._sizes(needed) if fits(needed, shape))

    def run(self, shape: Shape, turn: Turn, *arguments: Any) -> Call:
        """Run `advance` on a device that has the parameters.

        Args:
            arguments: those of `advance` after model and parameters; NumPy arrays of this shape.

        Raises:
            OutOfMemoryError: the batch does not fit into the device's memory.
        """
        with precision_scope(self._dtype), turn.taken() as params:
            arguments = (params, *arguments)
            try:
                program, compile_seconds = self._program(shape, turn.device, arguments)
                with _ROOM.taken(self._n_bytes.get(shape, 0)):
                    started = time.perf_counter()
                    state, n_evaluations = jax.device_get(program(*arguments))
                    ended = time.perf_counter()
            except JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                raise OutOfMemoryError(str(error).splitlines()[0]) from error
        return Call(state, int(n_evaluations), started, ended, compile_seconds)

    def _program(self, shape: Shape, device: Any, arguments: tuple) -> tuple[Callable, float]:
        """Compiled program, and the seconds spent compiling it now."""
        key = (self, shape, device)
        if (program := registry.find(key)) is not None:
            return program, 0.0
        function = partial(advance.__wrapped__, self._model)
        return registry.compile(key, function, arguments, partial(self._forget, shape), partial(self._weigh, shape))

    def _weigh(self, shape: Shape, program: Any) -> None:
        self._n_bytes[shape] = _check_memory(program)

    def _forget(self, shape: Shape) -> None:
        """Remove a shape whose program was released, so that it is no longer used for smaller batches."""
        with self._lock:
            self._shapes = [other for other in self._shapes if other != shape]


def _check_memory(program) -> int:
    """Host memory that a program uses while running, bytes; 0 on other devices than a CPU.

    Raises:
        OutOfMemoryError: the memory of a CPU's host does not suffice; the process would be killed.
    """
    if jax.default_backend() != "cpu":
        return 0
    needed, available = program.memory_analysis().temp_size_in_bytes, available_memory()
    if needed > available:
        raise OutOfMemoryError(f"needs {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are free")
    return needed


def _family(n_edge: int) -> Iterator[Shape]:
    """Shapes with room for `n_edge` edges: first for dense matter, then for ever fewer edges per atom, then larger."""
    for power in count((n_edge - 1).bit_length()):
        for size in (3 * 2**power // 4, 2**power):
            for edges_per_atom in (16, 4, 1):
                n_node = size // edges_per_atom
                yield Shape(n_node, size, n_node // 2)


def _cost(shape: Shape) -> int:
    """Cost of an evaluation, in edges: an atom costs about as much as an edge."""
    return shape.n_edge + shape.n_node


@lru_cache(maxsize=16)
def programs_of(model: nn.Module, dtype: str, with_symmetry: bool) -> Programs:
    """Programs of this process for a model; those with symmetries to keep are separate. The registry limits their
    number."""
    return Programs(model, dtype)
