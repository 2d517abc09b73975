"""The compiled programs of this process: the choice of array shapes for evaluations, and the limit on programs.

XLA compiles one program per shape, which takes seconds, and keeps it: some 500 memory maps and 15 MB each. Linux allows
a process 65,530 maps, and LLVM aborts the process if it needs more. Programs and their shapes therefore belong to the
process, not to a calculator or a call: all evaluations of the same model in the same precision share them, and the
least recently used ones are released when there are too many.

**Choice of the shape** is a ski rental problem. Compiling M3GNet or MACE took about 3 s on one core, in which the core
computes about 150 GFLOP; M3GNet needs 0.5 MFLOP per edge, so a compilation costs as much as 300,000 edges. The cost per
edge is read from the compiled programs, never timed, so that the same calls get the same shapes, and the same results,
on every machine.

- A structure that fits into no existing shape gets a new one from a coarse ladder of powers of two.
- A structure that fits into an existing shape uses it, until the extra padding, compared with a rung or with a shape 10
  to 20 % larger than needed, has cost as much as a compilation; then that better shape is compiled. A thousand
  structures of all sizes thus need a handful of programs, and a long run of one structure soon gets its own. Whatever
  structures follow, padding costs at most about as much as compiling.
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
"""Largest number of programs that are kept."""
_SHARE_OF_MAPS = 0.5
"""Share of the memory maps allowed to the process above which programs are released."""

_OPERATIONS_OF_AN_EDGE = 5e5
"""Floating-point operations per edge of M3GNet, for backends that do not report those of a program."""
_SMALLEST = 64
"""Number of edges of the lowest rung; below it, the overhead of a call dominates."""
_FINE = ShapeLadder(growth=1.1)
_LITTLE = 0.1
"""Share of a compilation's cost. A new structure whose rung would add more padding than this gets a closely fitting
shape instead: large structures are rare, and padding would cost them memory."""
_HEADROOM = 1.05
"""Number of edges in a closely fitting shape relative to those needed when it is made, because atoms move."""


class Shapes:
    """Array shapes with compiled programs, for one function and model in one precision, and the choice among them."""

    def __init__(self):
        self._there: set[Shape] = set()
        self._wasted: Counter[Shape] = Counter()
        """Cost of the padding evaluated because this shape was not compiled, in edges."""
        self._operations_of_an_edge = _OPERATIONS_OF_AN_EDGE
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._there)

    def choose(self, needed: Shape, n_evaluations: int = 1) -> Shape:
        """Shape for evaluating arrays that need this size, padding node and padding graph included.

        Args:
            n_evaluations: number of batches of about this size that will follow.
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
        """Cost of one compilation, in edges."""
        return hardware().compilation_operations / self._operations_of_an_edge

    def add(self, shape: Shape, operations: float | None) -> None:
        """Register a compiled program for this shape.

        Args:
            operations: floating-point operations of the program, if known.
        """
        with self._lock:
            self._there.add(shape)
            if operations:
                self._operations_of_an_edge = operations / _cost(shape)

    def discard(self, shape: Shape) -> None:
        """Remove a shape whose program was released."""
        with self._lock:
            self._there.discard(shape)


def _rung(needed: Shape) -> Shape:
    """Shape with the lowest power of two edges that is large enough, and the fewest nodes that suffice: 1/16, 1/4 or 1
    per edge."""
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
    """Cost of one evaluation, in edges: an atom or a bond pair costs about as much as an edge."""
    return shape.n_edge + shape.n_node + shape.n_pair


class _Program(NamedTuple):
    call: Callable
    jitted: Callable
    """Function from which `call` was compiled. JAX keeps a program as long as its function exists, so each program has
    its own."""
    on_release: Callable[[], None]


class Registry:
    """All programs of this process by key; releases the least recently used when there are too many."""

    def __init__(self):
        self._programs: OrderedDict[Hashable, _Program] = OrderedDict()
        self._compiling = threading.RLock()

    def __len__(self) -> int:
        return len(self._programs)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._programs

    def find(self, key: Hashable) -> Callable | None:
        """Program with this key, if it exists; marks it as used."""
        if (program := self._programs.get(key)) is None:
            return None
        with suppress(KeyError):  # released meanwhile by another thread: it can still be called
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
        """Program with this key, compiled from a pure function if it does not exist, and the compilation time, s.

        Args:
            arguments: arrays with the shapes for which the program is compiled.
            on_release: called when the program is released.
            check: raises an error if the compiled program is unusable; the program is then not kept.
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
    """A pure function of a model and arrays like `jax.jit(function, static_argnums=0)`, with programs kept in the
    registry. Traced arrays are passed through, so it can be differentiated and be part of a larger program.

    Args:
        function: takes a model, which is constant in a program, then arrays; keyword arguments are also constant.
    """

    def __init__(self, function: Callable):
        self._function = function
        jitted = jax.jit(function, static_argnums=0)
        self.lower, self.trace = jitted.lower, jitted.trace

    def shapes(self, model: Hashable, dtype: str) -> Shapes:
        """Shapes in which this process evaluates the model with parameters of this dtype."""
        return _shapes.setdefault((self, model, dtype), Shapes())

    def __call__(self, model: Hashable, *arrays: Any, **constants: Any) -> Any:
        leaves, structure = jax.tree.flatten(arrays)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return jax.jit(partial(self._function, model, **constants))(*arrays)  # jit also traces NumPy arrays
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
    """Floating-point operations of a compiled program, if the backend reports them."""
    analysis = program.cost_analysis()
    return analysis.get("flops") if isinstance(analysis, dict) else None


def _maps_are_short() -> bool:
    try:
        allowed = int(Path("/proc/sys/vm/max_map_count").read_text())
        with Path("/proc/self/maps").open("rb") as maps:
            return sum(1 for _ in maps) > _SHARE_OF_MAPS * allowed
    except (OSError, ValueError):  # not Linux
        return False
