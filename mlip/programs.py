"""The compiled programs of this process: which array shape an evaluation gets, and how many programs there may be.

XLA compiles a program a shape, for seconds, and keeps it: some 500 memory maps and 15 MB each. Linux allows a process
65,530 maps, and LLVM aborts the process that asks for more. So programs and their shapes belong to the process, not to
a calculator or a call: whoever evaluates the same model in the same precision shares them, and when there are too many,
those that were used least recently are released.

**Which shape** is the question whether to rent skis or to buy them. Compiling took M3GNet and MACE about 3 s on a core,
in which it computes about 150 GFLOP; M3GNet needs 0.5 MFLOP an edge, so a compilation costs as much as 300,000 edges.
What a model needs an edge is read from its compiled programs, never timed: the same calls get the same shapes, and the
same numbers, on every machine.

- A structure that fits into no shape gets a new one from coarse rungs, powers of two.
- One that fits into a shape that is there takes it, until the padding evaluated for want of a rung, or of a shape
  within a tenth or two of what it needs, has cost as much as compiling that; then it is compiled. So a thousand
  structures of all sizes take a handful of programs, and a long run of one structure soon has a program of its own.
  Whatever is still to come, padding costs about as much as compiling at most.
"""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jraph
import numpy as np

from mlip.graph.batching import Shape, ShapeLadder, fits, shape_of
from mlip.hardware import hardware

MOST_PROGRAMS = 48
"""Programs that are kept."""
_SHARE_OF_MAPS = 0.5
"""Share of the memory maps that the process may have: when more are taken, by whomever, programs are released."""

_OPERATIONS_OF_AN_EDGE = 5e5
"""Those of M3GNet, for a backend that does not tell how many its programs need."""
_SMALLEST = 64
"""Edges of the lowest rung: with fewer, the overhead of a call is what counts."""
_FINE = ShapeLadder(growth=1.1)
_LITTLE = 0.1
"""Share of a compilation's cost: padding that costs more is not made for the sake of other structures to come. Those
with so many edges are few, and would feel it in memory."""
_HEADROOM = 1.05
"""Edges of a shape of one's own, over those needed when it is made: atoms move."""


class Shapes:
    """The shapes that there are programs for, of one function and model in one precision, and which one to take."""

    def __init__(self):
        self._there: set[Shape] = set()
        self._wasted: Counter[Shape] = Counter()
        """Edges evaluated in vain because this shape was not there."""
        self._operations_of_an_edge = _OPERATIONS_OF_AN_EDGE
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._there)

    def choose(self, needed: Shape, n_evaluations: int = 1) -> Shape:
        """The shape to evaluate arrays in that need this size, padding node and graph included.

        Args:
            n_evaluations: how many batches of about this size are to come together.
        """
        rung, fine = _rung(needed), _fine(needed)
        with self._lock:
            found = min((shape for shape in self._there if fits(needed, shape)), key=_cost, default=None)
            price = self._compilation()
            if found is None:
                return fine if n_evaluations * (_cost(rung) - _cost(fine)) > _LITTLE * price else rung
            for better in (fine, rung):
                if (waste := n_evaluations * (_cost(found) - _cost(better))) > 0:
                    self._wasted[better] += waste
            for better in (fine, rung):
                if self._wasted[better] > price and _cost(better) < _cost(found):
                    del self._wasted[better]
                    return better
            return found

    def _compilation(self) -> float:
        """Cost of a compilation, in edges."""
        return hardware().compilation_operations / self._operations_of_an_edge

    def add(self, shape: Shape, operations: float | None) -> None:
        """There is a program for this shape, which needs so many floating-point operations."""
        with self._lock:
            self._there.add(shape)
            if operations:
                self._operations_of_an_edge = operations / _cost(shape)

    def discard(self, shape: Shape) -> None:
        """There is none any more."""
        with self._lock:
            self._there.discard(shape)


def _rung(needed: Shape) -> Shape:
    """The lowest power of two with room for the edges, with nodes for dense matter or for fewer edges an atom."""
    powers = count((max(needed.n_edge, _SMALLEST) - 1).bit_length())
    sizes = ((2**power, 2**power // edges_per_node) for power in powers for edges_per_node in (16, 4, 1))
    n_pair = needed.n_pair and 1 << (needed.n_pair - 1).bit_length()
    rungs = (Shape(n_node, n_edge, max(2, n_node // 2), n_pair) for n_edge, n_node in sizes)
    return next(rung for rung in rungs if fits(needed, rung))


def _fine(needed: Shape) -> Shape:
    return _FINE.smallest(
        needed.n_node, round(_HEADROOM * needed.n_edge), needed.n_graph, round(_HEADROOM * needed.n_pair)
    )


def _cost(shape: Shape) -> int:
    """An evaluation's, in edges: an atom, or a bond pair, costs about as much as one."""
    return shape.n_edge + shape.n_node + shape.n_pair


class _Program(NamedTuple):
    call: Callable
    jitted: Callable
    """Function that `call` was compiled from. JAX keeps a program for as long as its function is known, hence one for
    each."""
    on_release: Callable[[], None]


class Registry:
    """All programs of this process by what they are of; the least recently used leave when there are too many."""

    def __init__(self):
        self._programs: OrderedDict[Hashable, _Program] = OrderedDict()
        self._compiling = threading.RLock()

    def __len__(self) -> int:
        return len(self._programs)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._programs

    def find(self, key: Hashable) -> Callable | None:
        """The program of that name, which counts as used now."""
        if (program := self._programs.get(key)) is None:
            return None
        with suppress(KeyError):  # released by another thread meanwhile: it can still be called
            self._programs.move_to_end(key)
        return program.call

    def compile(
        self,
        key: Hashable,
        function: Callable,
        arguments: tuple,
        on_release: Callable[[], None] = lambda: None,
        check: Callable[[Any], None] = lambda compiled: None,
    ) -> tuple[Callable, float]:
        """The program of that name, made of a pure function unless there is one, and the seconds that compiling took.

        Args:
            arguments: arrays of the shapes that the program is for.
            on_release: called when the program leaves.
            check: raises what is wrong with the compiled program, which is not kept then.
        """
        with self._compiling:
            if (call := self.find(key)) is not None:
                return call, 0.0
            started = time.perf_counter()
            jitted = jax.jit(function)
            try:
                compiled = jitted.lower(*arguments).compile()
                check(compiled)
            except BaseException:
                jitted.clear_cache()
                raise
            self._programs[key] = _Program(compiled, jitted, on_release)
            self._make_room()
            return compiled, time.perf_counter() - started

    def _make_room(self) -> None:
        while len(self._programs) > 1 and (len(self._programs) > MOST_PROGRAMS or _maps_are_short()):
            self._release(next(iter(self._programs)))

    def _release(self, key: Hashable) -> None:
        program = self._programs.pop(key)
        program.on_release()
        program.jitted.clear_cache()

    def clear(self) -> None:
        """Release all programs."""
        with self._compiling:
            for key in list(self._programs):
                self._release(key)


registry = Registry()
_shapes: dict[Hashable, Shapes] = {}


class Jitted:
    """A pure function of a model and arrays as `jax.jit(function, static_argnums=0)` makes it, whose programs are the
    registry's. Arrays that are being traced are passed through: it can be differentiated, and be part of a program.

    Args:
        function: of a model, which is constant in a program, then arrays; keywords are constant, too.
    """

    def __init__(self, function: Callable):
        self._function = function
        jitted = jax.jit(function, static_argnums=0)
        self.lower, self.trace = jitted.lower, jitted.trace

    def shapes(self, model: Hashable, dtype: str) -> Shapes:
        """Those that this process evaluates the model in, with parameters of this type."""
        return _shapes.setdefault((self, model, dtype), Shapes())

    def __call__(self, model: Hashable, *arrays: Any, **constants: Any) -> Any:
        leaves, structure = jax.tree.flatten(arrays)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return jax.jit(partial(self._function, model, **constants))(*arrays)  # jit: NumPy's arrays are traced, too
        key = (self, model, tuple(constants.items()), structure, _signature(leaves), _device_and_precision())
        program = registry.find(key) or self._compile(key, model, arrays, constants)
        return program(*arrays)

    def _compile(self, key: Hashable, model: Hashable, arrays: tuple, constants: dict[str, Any]) -> Callable:
        shape = next((shape_of(array) for array in arrays if isinstance(array, jraph.GraphsTuple)), None)
        dtype = next(str(leaf.dtype) for leaf in jax.tree.leaves(arrays) if np.issubdtype(leaf.dtype, np.floating))
        shapes = self.shapes(model, dtype)

        def forget() -> None:
            shapes.discard(shape)
            if not shapes:
                _shapes.pop((self, model, dtype), None)

        program, _ = registry.compile(key, partial(self._function, model, **constants), arrays, forget)
        if shape is not None:
            _shapes[self, model, dtype] = shapes
            shapes.add(shape, _operations(program))
        return program


def _signature(leaves: list[Any]) -> tuple:
    return tuple((leaf.shape, leaf.dtype) if hasattr(leaf, "shape") else type(leaf) for leaf in leaves)


def _device_and_precision() -> tuple:
    return jax.config.jax_default_device, jax.config.jax_enable_x64


def _operations(program: Any) -> float | None:
    """Floating-point operations of a compiled program, where the backend tells."""
    analysis = program.cost_analysis()
    return analysis.get("flops") if isinstance(analysis, dict) else None


def _maps_are_short() -> bool:
    try:
        allowed = int(Path("/proc/sys/vm/max_map_count").read_text())
        with Path("/proc/self/maps").open("rb") as maps:
            return sum(1 for _ in maps) > _SHARE_OF_MAPS * allowed
    except (OSError, ValueError):  # not Linux
        return False
