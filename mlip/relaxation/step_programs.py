"""The programs that step batches, one an array shape: which shape a batch gets, and whether that fits into memory.

XLA compiles for seconds what runs for milliseconds. So a batch takes a larger shape that is there already, until the
padding evaluated for want of the tight one has cost as much as compiling it; then it is compiled. Whatever is still
to come, that takes at most twice as long as the best that could have been chosen (whether to rent skis or buy them).
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count
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
"""The host's memory, for the batches of all threads: on a CPU one a core is evaluated at once."""


class OutOfMemoryError(Exception):
    """The device has no room for a batch."""


class Call(NamedTuple):
    """Result of a call of the device."""

    state: State
    """On the host."""
    n_evaluations: int
    started: float
    ended: float
    """By `time.perf_counter`; compilation and packing excluded."""
    compile_seconds: float


class Programs:
    """The programs of one model in one precision. `run` may be called by several threads, the rest by one."""

    def __init__(self, model: nn.Module, dtype: str):
        self._model, self._dtype = model, dtype
        self._hardware = hardware()
        self._too_large = math.inf
        """Edges of a shape that did not fit into memory."""
        self._shapes: list[Shape] = []
        self._n_bytes: dict[Shape, int] = {}
        """Bytes of the host's memory that a program takes while it runs."""
        self._wasted: Counter[Shape] = Counter()

    @property
    def budget(self) -> int:
        """Edges of the largest batch, unless a structure has more."""
        return self._hardware.largest_relaxation

    def stay_below(self, shape: Shape) -> None:
        """From now on batches are at most half as large as this one, which did not fit into memory."""
        self._too_large = min(self._too_large, shape.n_edge)
        largest = max(min(self._hardware.largest_relaxation, shape.n_edge // 2), 1)
        smallest = min(self._hardware.smallest_relaxation, largest)
        self._hardware = replace(self._hardware, largest_relaxation=largest, smallest_relaxation=smallest)
        self._shapes = [other for other in self._shapes if other.n_edge < shape.n_edge]

    def room(self, n_edge: float = math.inf) -> Shape:
        """Size up to which a batch of about so many edges is filled: one that is compiled, if possible."""
        largest, smallest = self._hardware.largest_relaxation, self._hardware.smallest_relaxation
        size = 2 ** round(math.log2(min(max(n_edge, smallest), largest)))
        size = min((shape.n_edge for shape in self._shapes if size <= shape.n_edge <= largest), default=size)
        return Shape(size // 4, size, size // 8)

    def room_beside(self, needed: Shape) -> Shape:
        """Size up to which a batch may be filled whose first structure needs more than it should have; not at all,
        where so much did not fit into memory."""
        tight = self.tight(needed)
        return tight if tight.n_edge < self._too_large else needed

    def choose(self, needed: Shape) -> Shape:
        """The shape for a batch of this size: the tight one, or for the time being a larger one that is there."""
        tight = self.tight(needed)
        rented = min((shape for shape in self._shapes if fits(needed, shape)), key=_cost, default=None)
        if rented is not None and self._wasted[tight] < self._hardware.relaxation_compilation:
            return rented
        if tight not in self._shapes:
            self._shapes.append(tight)
        return tight

    def count_waste(self, needed: Shape, shape: Shape, n_evaluations: int) -> None:
        """After a batch of size `needed` was evaluated in `shape`."""
        tight = self.tight(needed)
        self._wasted[tight] += n_evaluations * (_cost(shape) - _cost(tight))

    def tight(self, needed: Shape) -> Shape:
        """The smallest shape for a batch of this size, compiled or not."""
        return next(
            shape for shape in _family(max(self._hardware.smallest_relaxation, needed.n_edge)) if fits(needed, shape)
        )

    def run(self, shape: Shape, turn: Turn, *arguments: Any) -> Call:
        """`advance` on a device that has the parameters, with these arguments (without model and parameters), numpy's
        arrays of this shape.

        Raises:
            OutOfMemoryError: it does not fit into the device's memory.
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
        """The compiled program, and the seconds that it took to compile: now, or none."""
        key = (self, shape, device)
        if (program := registry.find(key)) is not None:
            return program, 0.0
        function = partial(advance.__wrapped__, self._model)
        return registry.compile(key, function, arguments, partial(self._forget, shape), partial(self._weigh, shape))

    def _weigh(self, shape: Shape, program: Any) -> None:
        self._n_bytes[shape] = _check_memory(program)

    def _forget(self, shape: Shape) -> None:
        """Its program was released: batches no longer go there for want of another."""
        self._shapes = [other for other in self._shapes if other != shape]


def _check_memory(program) -> int:
    """Bytes of the host's memory that a program takes while it runs.

    Raises:
        OutOfMemoryError: on the CPU, where the process would not be refused more than there is, but killed.
    """
    if jax.default_backend() != "cpu":
        return 0
    needed, available = program.memory_analysis().temp_size_in_bytes, available_memory()
    if needed > available:
        raise OutOfMemoryError(f"needs {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are free")
    return needed


def _family(n_edge: int) -> Iterator[Shape]:
    """Shapes with room for so many edges: for dense matter first, then for ever fewer edges an atom, then larger."""
    for power in count((n_edge - 1).bit_length()):
        for size in (3 * 2**power // 4, 2**power):
            for edges_per_atom in (16, 4, 1):
                n_node = size // edges_per_atom
                yield Shape(n_node, size, n_node // 2)


def _cost(shape: Shape) -> int:
    """Cost of an evaluation, in edges: an atom costs about as much as one."""
    return shape.n_edge + shape.n_node


@lru_cache(maxsize=16)
def programs_of(model: nn.Module, dtype: str, with_symmetry: bool) -> Programs:
    """Those of this process for a model; with symmetries to keep they are others. The registry bounds their number."""
    return Programs(model, dtype)
