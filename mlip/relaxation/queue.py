"""`relax`: relaxes many structures, a few at a time on the device; waiting ones replace those that end.

Structures enter in order of decreasing size, so that those in a batch are similar and the last ones are small. Calls of
the device overlap: while batches step, others are packed, and the host removes structures that have ended, renews
exhausted neighbor lists and composes the next batch from whatever is not on the device. Results of calls are processed
in the order of submission, not of completion, so that nothing depends on timing.
"""

import math
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike
from typing import Any, NamedTuple

import jax
import numpy as np
from ase import Atoms
from ase.constraints import FixSymmetry

from mlip.data.workers import n_cores
from mlip.devices import Turn
from mlip.errors import MlipError
from mlip.foreign import ForeignPotential
from mlip.graph.batching import Shape, pad_batch
from mlip.hardware import hardware
from mlip.potential import Potential, open_evaluator
from mlip.progress import count_bar
from mlip.relaxation.batch import FIXED_AXES, FIXED_AXES_WITH_MAPS, STATE_AXES, Limits, stack, unstack
from mlip.relaxation.cell import CellChoice, cell_of_each
from mlip.relaxation.certainty import with_certainty
from mlip.relaxation.constraints import has_directions
from mlip.relaxation.endings import finish, give_up, identity, record_step
from mlip.relaxation.named import facts_of
from mlip.relaxation.one_by_one import relax_one_by_one
from mlip.relaxation.options import Options
from mlip.relaxation.result import Reason, RelaxResult
from mlip.relaxation.results_table import RelaxResults
from mlip.relaxation.statistics import Statistics
from mlip.relaxation.step_programs import Call, OutOfMemoryError, Programs, fits, programs_of
from mlip.relaxation.structure import OPEN_DIRECTIONS, Relaxing, admit, estimate_edges
from mlip.relaxation.structures_to_relax import Refused, take_in
from mlip.runtime import set_up_jax

_MAX_ITERATIONS = 16
"""Steps in one call of the device. Calls of equal length do not wait for one another."""
_MOVING_FRACTION = 0.8
"""Fraction of moving structures in a batch below which the device returns."""


def relax(
    structures: Any,
    potential: Potential | ForeignPotential | str | PathLike | None = None,
    fmax: float = 0.05,
    steps: int = 500,
    cell: CellChoice | Sequence[CellChoice] = "auto",
    symmetry: bool = False,
    dtype: str = "float32",
    progress: bool = True,
    **others: Any,
) -> RelaxResults:
    """Relax structures to the nearest minimum, with FIRE and the Frechet cell of ASE.

    Args:
        structures: one or an iterable of ASE Atoms, pymatgen Structures or structures of an OPTIMADE response, with any
            periodicity and size; not modified. Supported constraints: FixAtoms, FixScaled, FixCartesian, FixedPlane,
            FixedLine and FixSymmetry.
        potential: a `Potential`, or the path or name of one, by default that set with `mlip models default`; or any ASE
            calculator, ase:MODULE:CLASS?key=value, with which structures relax one at a time, in its own precision.
        fmax: convergence threshold for the force on every atom and on the cell, eV/A.
        steps: largest number of steps per structure.
        cell: "auto" relaxes the periodic directions, "hydrostatic" only the volume (a layer's area, a chain's length),
            True all strain components, False none; or a mask as in ASE, Voigt (xx yy zz yz xz xy) or 3 x 3, as a NumPy
            array in which True relaxes; or `Along((True, True, False))` for the span of some cell vectors, e.g. of a
            layer whose vacuum is periodic. A list, including one of bools, gives each structure its own choice.
        symmetry: keep the space group, found with a tolerance of 0.01 A; the structure is first made exactly symmetric.
        dtype: "float32" or "float64".
        progress: show a progress bar on stderr.
        others: further `Options`: `smax_gpa`, an additional convergence threshold for the stress; `pressure_gpa`,
            `constant_volume`; `stress_factor`, to reproduce relaxations with a wrong unit of stress; `min_distance` and
            `max_strain`, the limits for collapsed and exploded structures; `trajectory`, to keep every step.

    Returns:
        A list with a result for every structure, in the order given; `to_dataframe()` converts it to a table, and
        `potential` has the potential's name, functional and license. A structure that fails (an unsupported constraint,
        a partly occupied site, an unknown element) has its reason and does not affect the others.

    Raises:
        MlipError: the options are invalid, or an item is not a structure.
    """
    inputs = take_in(structures)
    results: list[RelaxResult | None] = [None] * len(inputs)
    options = {"fmax": fmax, "steps": steps, "cell": cell, "symmetry": symmetry, "dtype": dtype, **others}
    Options.of(options)  # checked before opening a potential, which may have to be downloaded
    opened = open_evaluator(potential)
    finished = relaxations(inputs, opened, **options)
    with count_bar(progress) as bar:
        task = bar.add_task("relaxing", total=len(inputs))
        for index, result in finished:
            results[index] = result
            bar.advance(task)
    return RelaxResults(results, facts_of(opened))


def relaxations(
    structures: Any,
    potential: Potential | ForeignPotential | str | PathLike,
    *,
    statistics: Statistics | None = None,
    **options: Any,
) -> Iterator[tuple[int, RelaxResult]]:
    """Yield (index, result) of each structure when its relaxation ends, in no particular order; otherwise like `relax`.

    Args:
        options: fields of `Options`.
    """
    checked = Options.of(options)
    potential = open_evaluator(potential)
    inputs = take_in(structures)
    if checked.pressure_gpa and inputs and not any(atoms.pbc.all() for atoms in inputs):
        raise MlipError(OPEN_DIRECTIONS, where="structure 0", fix="pressure_gpa=0")
    cells = cell_of_each(checked.cell, len(inputs))
    set_up_jax()
    statistics = Statistics() if statistics is None else statistics
    with_maps = checked.symmetry or any(map(_has_maps, inputs))
    if isinstance(potential, ForeignPotential):
        return relax_one_by_one(inputs, cells, potential, checked, with_maps, statistics)
    return _Queue(inputs, cells, potential, checked, with_maps, statistics).run()


class _Sent(NamedTuple):
    """A batch submitted to the device."""

    batch: list[Relaxing]
    needed: Shape
    shape: Shape
    future: "Future[Call]"


class _Filling:
    """A batch being composed."""

    def __init__(self, programs: Programs, n_edge: float):
        self.programs, self.room, self.enough = programs, programs.room(n_edge), n_edge
        self.members: list[Relaxing] = []
        self.size = Shape(n_node=1, n_edge=0, n_graph=1)
        """Array shape that the batch needs, including padding."""

    def __bool__(self) -> bool:
        return bool(self.members)

    @property
    def is_full(self) -> bool:
        return bool(self.members) and self.size.n_edge >= min(self.enough, self.room.n_edge)

    def take(self, relaxing: Relaxing) -> bool:
        """Add a structure if there is room, and return whether there was; the first one always fits."""
        before = self.size
        size = Shape(before.n_node + len(relaxing), before.n_edge + _n_edges(relaxing), before.n_graph + 1)
        if not fits(size, self.room):
            if self.members:
                return False
            self.room = self.programs.room_beside(size)
        self.members.append(relaxing)
        self.size = size
        return True


class _Queue:
    """Continuous batching: the waiting structures, those on the device, and the cost so far."""

    def __init__(self, structures, cells, potential, options, with_maps, statistics):
        self.structures, self.cells, self.potential = structures, cells, potential
        self.options, self.dtype = options, np.dtype(options.dtype)
        self.with_maps = with_maps
        skin = hardware().relaxation_skin
        self.limits = Limits.of(options, potential.cutoff, skin, 1 if options.trajectory else _MAX_ITERATIONS)
        self.programs = programs_of(potential.model, options.dtype, self.with_maps)
        self.turns, self.told = potential.on_devices(options.dtype).turns(), identity(potential)
        sizes = [estimate_edges(atoms, potential.cutoff + self.limits.skin) for atoms in structures]
        self.waiting: deque[int | Relaxing] = deque(np.argsort(-np.array(sizes), kind="stable").tolist())
        self.ready: list[Relaxing] = []
        """Structures in progress with a valid neighbor list, not on the device."""
        self.sent: deque[_Sent] = deque()
        self.n_workers = _n_workers()
        self.statistics = statistics
        self._device_busy_until = 0.0

    def run(self) -> Iterator[tuple[int, RelaxResult]]:
        pool = ThreadPoolExecutor(self.n_workers)
        since = time.perf_counter()
        try:
            while True:
                ended = self._send(pool)
                if self.sent:
                    ended += self._receive()
                self.statistics.seconds += (now := time.perf_counter()) - since
                since = now
                yield from ended
                if not (self.sent or self.ready or self.waiting):
                    return
        finally:
            pool.shutdown(cancel_futures=True)

    def _send(self, pool: ThreadPoolExecutor) -> list[tuple[int, RelaxResult]]:
        """Submit batches for all workers and one in reserve. Returns the structures that could not be started."""
        failed = []
        while len(self.sent) <= self.n_workers and (self.ready or self.waiting):
            batch, not_started = self._next_batch()
            failed += not_started
            if batch:
                shape = self.programs.choose(batch.size)
                self.sent.append(
                    _Sent(
                        batch.members,
                        batch.size,
                        shape,
                        pool.submit(self._advance, batch.members, shape, next(self.turns)),
                    )
                )
        return failed

    def _next_batch(self) -> tuple["_Filling", list[tuple[int, RelaxResult]]]:
        """Next batch: structures in progress, then waiting ones, the largest first and, when those no longer fit, the
        smallest. Also returns the structures that could not be started."""
        batch, failed = _Filling(self.programs, self._share()), []
        self.ready = [relaxing for relaxing in self.ready if batch.is_full or not batch.take(relaxing)]
        take, put_back = self.waiting.popleft, self.waiting.appendleft
        while self.waiting and not batch.is_full:
            entering = take()
            try:
                relaxing = entering if isinstance(entering, Relaxing) else self._admit(entering)
            except MlipError as error:
                failed.append((entering, give_up(self.structures[entering], error)))
                continue
            if batch.take(relaxing):
                continue
            put_back(relaxing)
            if take == self.waiting.pop:
                break
            take, put_back = self.waiting.pop, self.waiting.append
        return batch, failed

    def _share(self) -> float:
        """Number of edges per worker when the remaining ones are divided equally."""
        if self.waiting:
            return math.inf
        return (sum(map(_n_edges, self.ready)) + sum(sent.needed.n_edge for sent in self.sent)) / self.n_workers

    def _admit(self, index: int) -> Relaxing:
        if isinstance(refused := self.structures[index], Refused):
            raise refused.error
        relaxing = admit(index, self.structures[index], self.potential, self.cells[index], self.options, self.with_maps)
        self._make_list(relaxing)
        return relaxing

    def _make_list(self, relaxing: Relaxing) -> None:
        relaxing.make_list(self.potential.cutoff, self.limits.skin)
        self.statistics.n_lists += 1

    def _advance(self, batch: list[Relaxing], shape: Shape, turn: Turn) -> Call:
        """Pack a batch and let a device step it. Runs in worker threads; changes no state."""
        graph = pad_batch([r.graph for r in batch], shape)
        fixed_axes = FIXED_AXES_WITH_MAPS if self.with_maps else FIXED_AXES
        return self.programs.run(
            shape,
            turn,
            float(self.potential.metadata.scale),
            float(self.potential.metadata.shift),
            graph,
            stack(fixed_axes, [r.fixed for r in batch], shape.n_node, shape.n_graph),
            stack(STATE_AXES, [r.state for r in batch], shape.n_node, shape.n_graph),
            self.limits._replace(min_moving=math.ceil(_MOVING_FRACTION * len(batch))),
        )

    def _receive(self) -> list[tuple[int, RelaxResult]]:
        """Wait for the batch that was submitted first. Returns the structures that ended."""
        sent = self.sent.popleft()
        try:
            call = sent.future.result()
        except OutOfMemoryError as error:
            return self._shrink(sent, error)
        states = unstack(STATE_AXES, call.state, [len(r) for r in sent.batch])
        for relaxing, state in zip(sent.batch, states, strict=True):
            before, relaxing.state = relaxing.state, state
            if relaxing.trajectory is not None:
                record_step(relaxing, before, self.potential, self.told)
        self._count(sent, call)
        running = [r for r in sent.batch if r.reason is Reason.RUNNING]
        ended = [r for r in sent.batch if r.reason is not Reason.RUNNING]
        self.statistics.n_force_calls += sum(int(r.state.fire.n_steps[0]) + 1 for r in ended)
        return self._finished(ended) + self._make_ready(running)

    def _finished(self, ended: list[Relaxing]) -> list[tuple[int, RelaxResult]]:
        """Results of structures that ended, with the potential's uncertainty if it has one."""
        results = [finish(relaxing, self.potential, self.told) for relaxing in ended]
        if self.potential.uncertainty is not None:
            results = with_certainty(ended, results, self.potential, self.options.dtype)
        return [(relaxing.index, result) for relaxing, result in zip(ended, results, strict=True)]

    def _make_ready(self, running: list[Relaxing]) -> list[tuple[int, RelaxResult]]:
        """Build new lists for the structures that need one; returns those for which this failed."""
        failed = []
        for relaxing in running:
            try:
                if relaxing.state.needs_list[0]:
                    self._make_list(relaxing)
                self.ready.append(relaxing)
            except MlipError as error:
                failed.append((relaxing.index, give_up(relaxing.atoms, error, relaxing)))
        return failed

    def _shrink(self, sent: _Sent, error: OutOfMemoryError) -> list[tuple[int, RelaxResult]]:
        """Use smaller batches from now on and requeue this one; a structure that is too large on its own fails."""
        before = self.programs.budget
        self.programs.stay_below(sent.shape)
        if len(sent.batch) == 1 and sent.shape == self.programs.tight(sent.needed):
            (relaxing,) = sent.batch
            message = f"its {sent.needed.n_edge:,} edges do not fit into memory: {error}"
            failure = MlipError(message, where=f"structure {relaxing.index}", fix="a device with more memory")
            return [(relaxing.index, give_up(relaxing.atoms, failure, relaxing))]
        if self.programs.budget < before:  # otherwise the batch was already submitted
            warnings.warn(
                f"out of memory with {sent.shape.n_edge:,} edges a batch: {self.programs.budget:,} from now on",
                stacklevel=1,
            )
        self.ready = sent.batch + self.ready
        return []

    def _count(self, sent: _Sent, call: Call) -> None:
        self.programs.count_waste(sent.needed, sent.shape, call.n_evaluations)
        statistics = self.statistics
        statistics.shapes.add(sent.shape)
        statistics.n_calls += 1
        statistics.n_evaluations += call.n_evaluations
        statistics.n_real_edges += call.n_evaluations * sent.needed.n_edge
        statistics.n_padded_edges += call.n_evaluations * sent.shape.n_edge
        statistics.compile_seconds += call.compile_seconds
        statistics.device_seconds += max(0.0, call.ended - max(call.started, self._device_busy_until))
        self._device_busy_until = max(call.ended, self._device_busy_until)


def _n_workers() -> int:
    """Number of batches on the devices at once. On a CPU one per core, which is faster than sharing a batch among
    cores; elsewhere each device computes one while another is packed."""
    return n_cores() if jax.default_backend() == "cpu" else 2 * jax.local_device_count()


def _has_maps(atoms: Atoms) -> bool:
    """Whether a structure has constraints that need maps of forces and moves."""
    return has_directions(atoms) or any(isinstance(constraint, FixSymmetry) for constraint in atoms.constraints)


def _n_edges(relaxing: Relaxing) -> int:
    return len(relaxing.graph.senders)
