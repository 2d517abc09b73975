"""`relax`: many structures, a few at a time on the device; those that end leave, waiting ones take their place.

Structures enter by falling size, so that those together in a batch are alike and the last ones are small. Calls of
the device overlap: while batches step, others are packed, and the host takes out what has ended, renews exhausted
neighbor lists and composes the next batch of whatever is not on the device. Calls are taken up again in the order
in which they were sent, not in which they come back, so that nothing depends on who was faster.
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
"""Steps in one call of the device: calls that last equally long don't wait for one another."""
_MOVING_FRACTION = 0.8
"""The device returns when a smaller share of the batch moves."""


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
        structures: ASE Atoms, pymatgen Structures or structures of an OPTIMADE answer, one or any iterable of them, of
            any periodicity and sizes; not modified. Constraints are kept: FixAtoms, FixScaled, FixCartesian,
            FixedPlane, FixedLine and FixSymmetry.
        potential: a `Potential` or the path or name of one, by default the declared one, `mlip models default`; or
            ase:MODULE:CLASS?key=value, any calculator of ASE, with which structures relax one by one, and which has a
            precision of its own.
        fmax: a structure has converged when the force on every atom, and on the cell, is below this, eV/A.
        steps: the most steps that a structure takes.
        cell: "auto" relaxes the periodic directions, "hydrostatic" only the volume (a layer's area, a chain's length),
            True all strain components, False none; or a mask as ASE takes it, Voigt (xx yy zz yz xz xy) or 3 x 3, True
            = relaxes, as a numpy array; or `Along((True, True, False))` for the span of some cell vectors, e.g. of a
            layer whose vacuum is periodic. A list gives each structure its own choice, also a list of bools.
        symmetry: keep the space group, which is found within 0.01 A; the structure is made exactly symmetric first.
        dtype: "float32" or "float64".
        progress: show a progress bar on stderr.
        others: further `Options`: `smax_gpa`, a stress below which alone a relaxation has converged; `pressure_gpa`,
            `constant_volume`; `stress_factor`, to repeat relaxations that were run with a wrong unit of stress;
            `min_distance` and `max_strain`, by which a structure has collapsed or exploded; `trajectory`, to keep every
            step.

    Returns:
        A list with a result for every structure, in their order; `to_dataframe()` makes a table of it, and `potential`
        tells name, functional and license of the potential. A structure that fails (a constraint that cannot be kept, a
        partly occupied site, an unknown element) has its reason and leaves the others alone.

    Raises:
        MlipError: options that make no sense, something that is no structure.
    """
    inputs = take_in(structures)
    results: list[RelaxResult | None] = [None] * len(inputs)
    options = {"fmax": fmax, "steps": steps, "cell": cell, "symmetry": symmetry, "dtype": dtype, **others}
    Options.of(options)  # refused before a potential is opened, which may have to be fetched
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
    """As `relax`, giving (index, result) of each structure when it ends, in no particular order.

    Args:
        options: the fields of `Options`.
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
    """A batch on its way through the device."""

    batch: list[Relaxing]
    needed: Shape
    shape: Shape
    future: "Future[Call]"


class _Filling:
    """A batch that is being composed."""

    def __init__(self, programs: Programs, n_edge: float):
        self.programs, self.room = programs, programs.room(n_edge)
        self.members: list[Relaxing] = []
        self.size = Shape(n_node=1, n_edge=0, n_graph=1)
        """Size that the batch needs, padding included."""

    def __bool__(self) -> bool:
        return bool(self.members)

    @property
    def is_full(self) -> bool:
        return self.size.n_edge >= self.room.n_edge

    def take(self, relaxing: Relaxing) -> bool:
        """Whether there was room for it; there is for the first, however large."""
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
    """Continuous batching: who waits, who is on the device, and what that has cost so far."""

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
        """Under way, with a good neighbor list, not on the device."""
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
        """Batches for all workers and one in store. Returns the structures that could not be started."""
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
        """Structures that fill a shape: those under way, then those that wait, the largest and, when these no longer
        fit, the smallest. And those that could not be started."""
        batch, failed = _Filling(self.programs, self._share()), []
        self.ready = [relaxing for relaxing in self.ready if not batch.take(relaxing)]
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
        """Edges of a worker, when all that are left are shared out."""
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
        """Pack a batch and let a device step. Called by workers; changes nothing."""
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
        """Wait for the batch that was sent first. Returns the structures that ended."""
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
        """The results of those that ended, with how sure the potential is, if it knows."""
        results = [finish(relaxing, self.potential, self.told) for relaxing in ended]
        if self.potential.uncertainty is not None:
            results = with_certainty(ended, results, self.potential, self.options.dtype)
        return [(relaxing.index, result) for relaxing, result in zip(ended, results, strict=True)]

    def _make_ready(self, running: list[Relaxing]) -> list[tuple[int, RelaxResult]]:
        """New lists for those that wait for one; returns those that cannot have one."""
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
        """Smaller batches from now on, this one again; a structure that is too large by itself has failed."""
        before = self.programs.budget
        self.programs.stay_below(sent.shape)
        if len(sent.batch) == 1 and sent.shape == self.programs.tight(sent.needed):
            (relaxing,) = sent.batch
            message = f"its {sent.needed.n_edge:,} edges do not fit into memory: {error}"
            failure = MlipError(message, where=f"structure {relaxing.index}", fix="a device with more memory")
            return [(relaxing.index, give_up(relaxing.atoms, failure, relaxing))]
        if self.programs.budget < before:  # else a call that was on its way already
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
    """Batches on the devices at once: on a CPU one a core, each of which computes by itself better than all share a
    batch; elsewhere each device computes one while another is packed."""
    return n_cores() if jax.default_backend() == "cpu" else 2 * jax.local_device_count()


def _has_maps(atoms: Atoms) -> bool:
    """Whether it has constraints that need maps of forces and moves."""
    return has_directions(atoms) or any(isinstance(constraint, FixSymmetry) for constraint in atoms.constraints)


def _n_edges(relaxing: Relaxing) -> int:
    return len(relaxing.graph.senders)
