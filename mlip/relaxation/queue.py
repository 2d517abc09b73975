"""`relax`: many structures, a few at a time on the device; those that end leave, waiting ones take their place.

Structures enter by falling size, so that those together in a batch are alike and the last ones are small. At
every return of the device the host takes out what has ended, renews exhausted neighbour lists, fills up to a
budget of edges, and packs again. Shapes are powers of two and are used again where they fit: few compilations.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from numbers import Number
from os import PathLike
from typing import Any

import jax
import numpy as np
from ase import Atoms
from ase.constraints import FixSymmetry
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mlip.errors import MlipError
from mlip.graph.batching import Shape, pad_batch
from mlip.potential import Potential, open_potential
from mlip.relaxation.batch import (
    FIXED_AXES,
    FIXED_AXES_WITH_SYMMETRY,
    STATE_AXES,
    Limits,
    advance,
    stack,
    unstack,
)
from mlip.relaxation.cell import CellChoice, checked_choice
from mlip.relaxation.options import Options
from mlip.relaxation.result import Reason, RelaxResult
from mlip.relaxation.structure import Relaxing, admit, check_constraints, estimate_edges, finish, give_up
from mlip.runtime import compilation_seconds, precision_scope, set_up_jax
from mlip.units import EV_PER_A3_IN_GPA

SKIN = 0.4
"""Neighbour lists reach this much farther than the potential, A."""
_EDGES_PER_BATCH = {"cpu": 8_192}
"""By backend. On a CPU larger batches fall out of its caches: with M3GNet 4k and 8k edges took 8.5 ms of CPU time
a crystal and step, 16k 10.9 ms."""
_EDGES_PER_BATCH_ACCELERATOR = 262_144
_MAX_ITERATIONS = 100
"""Steps in one call of the device."""
_MOVING_FRACTION = 0.9
"""The device returns when a smaller share of the batch moves."""
_SMALLEST_SHAPE_EDGES = 512
_SPARE = 2
"""A shape compiled before is used when it is at most this many times too large, rather than compiling another. With
4 a job of 48 crystals took twice as long, compilation included (MACE, two cores)."""


@dataclass
class Statistics:
    """What the relaxations cost."""

    n_evaluations: int = 0
    """Of the batch on the device."""
    n_force_calls: int = 0
    """Of single structures, as ASE would count them."""
    n_calls: int = 0
    """Of the device."""
    n_lists: int = 0
    n_real_edges: int = 0
    n_padded_edges: int = 0
    """Edges evaluated in the sum over calls, real and with padding."""
    shapes: set[Shape] = field(default_factory=set)
    seconds: float = 0.0
    compile_seconds: float = 0.0

    @property
    def padded_fraction(self) -> float:
        """Of the edges evaluated."""
        return 1 - self.n_real_edges / max(self.n_padded_edges, 1)

    def as_record(self) -> dict[str, Any]:
        return {
            "evaluations": self.n_evaluations,
            "force_calls": self.n_force_calls,
            "device_calls": self.n_calls,
            "neighbour_lists": self.n_lists,
            "padded_fraction": round(self.padded_fraction, 4),
            "compiled_shapes": len(self.shapes),
            "compile_seconds": round(self.compile_seconds, 2),
            "seconds": round(self.seconds, 2),
        }


def relax(
    structures: Sequence[Atoms],
    potential: Potential | str | PathLike,
    fmax: float = 0.05,
    steps: int = 500,
    cell: CellChoice | Sequence[CellChoice] = "auto",
    symmetry: bool = False,
    dtype: str = "float32",
    progress: bool = True,
    **others: Any,
) -> list[RelaxResult]:
    """Relax structures to the nearest minimum, with FIRE and the Frechet cell of ASE.

    Args:
        structures: any periodicity and sizes; not modified. FixAtoms and FixSymmetry constraints are kept.
        potential: a `Potential` or the path of one.
        fmax: converged when every row of forces, those of the cell included, is shorter; eV/A.
        steps: at most.
        cell: "auto" relaxes the periodic directions, True all strain components, False none; or a mask as ASE
            takes it, Voigt (xx yy zz yz xz xy) or 3 x 3, True = relaxes; or `Along((True, True, False))` for the
            span of some cell vectors, e.g. of a layer whose vacuum is periodic. A list gives each structure its own.
        symmetry: keep the space group, which is found within 0.01 A; the structure is made exactly symmetric first.
        dtype: "float32" or "float64".
        progress: show a progress bar on stderr.
        others: further `Options`: `pressure_gpa`, `constant_volume`; `min_distance` and `max_strain`, by which a
            structure has collapsed or exploded.

    Returns:
        A result for every structure, in their order. A structure that fails has its reason and leaves the others
        alone.

    Raises:
        MlipError: options that make no sense, a constraint other than FixAtoms and FixSymmetry.
    """
    structures = [structures] if isinstance(structures, Atoms) else list(structures)
    results: list[RelaxResult | None] = [None] * len(structures)
    options = {"fmax": fmax, "steps": steps, "cell": cell, "symmetry": symmetry, "dtype": dtype, **others}
    finished = relaxations(structures, potential, **options)
    with progress_bar(progress) as bar:
        task = bar.add_task("relaxing", total=len(structures))
        for index, result in finished:
            results[index] = result
            bar.advance(task)
    return results


def progress_bar(shown: bool = True) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )


def relaxations(
    structures: Sequence[Atoms],
    potential: Potential | str | PathLike,
    *,
    statistics: Statistics | None = None,
    **options: Any,
) -> Iterator[tuple[int, RelaxResult]]:
    """As `relax`, giving (index, result) of each structure when it ends, in no particular order.

    Args:
        options: the fields of `Options`.
    """
    checked = Options(**options)
    potential = open_potential(potential)
    for index, atoms in enumerate(structures):
        if not isinstance(atoms, Atoms):
            raise MlipError(f"is a {type(atoms).__name__}", where=f"structure {index}", fix="give ase.Atoms")
        check_constraints(index, atoms)
        if checked.pressure_gpa and not atoms.pbc.all():
            raise MlipError("open directions have no pressure", where=f"structure {index}", fix="pressure_gpa=0")
    cells = _cell_of_each(checked.cell, len(structures))
    set_up_jax()
    return _Queue(structures, cells, potential, checked, statistics or Statistics()).run()


def _cell_of_each(cell: CellChoice | Sequence[CellChoice], n_structures: int) -> list[CellChoice]:
    """One checked choice for each structure. A list of numbers is a mask, other lists have one choice for each."""
    is_sequence = isinstance(cell, list | tuple)
    is_vector = is_sequence and len(cell) > 0 and all(isinstance(c, Number | np.bool_) for c in cell)
    is_matrix = is_sequence and len(cell) == 3 != n_structures and all(np.shape(row) == (3,) for row in cell)
    if not is_sequence or is_vector or is_matrix:
        return [checked_choice(cell, "cell")] * n_structures
    if len(cell) != n_structures:
        raise MlipError(f"{len(cell)} choices for {n_structures} structures", where="cell")
    return [checked_choice(choice, f"cell of structure {k}") for k, choice in enumerate(cell)]


class _Queue:
    """Continuous batching: who waits, who is on the device, and what that has cost so far."""

    def __init__(self, structures, cells, potential, options, statistics):
        self.structures, self.cells, self.potential = structures, cells, potential
        self.options, self.dtype = options, np.dtype(options.dtype)
        self.keeps_symmetry = options.symmetry or any(map(_has_fixed_symmetry, structures))
        self.reach = potential.cutoff + SKIN
        self.limits = Limits(
            fmax=options.fmax,
            steps=options.steps,
            cutoff=potential.cutoff,
            skin=SKIN,
            max_iterations=_MAX_ITERATIONS,
            min_moving=1,
            min_distance=options.min_distance,
            max_strain=options.max_strain,
            pressure=options.pressure_gpa / EV_PER_A3_IN_GPA,
        )
        self.edges_per_batch = _EDGES_PER_BATCH.get(jax.default_backend(), _EDGES_PER_BATCH_ACCELERATOR)
        sizes = [estimate_edges(atoms, self.reach) for atoms in structures]
        self.waiting: deque[int | Relaxing] = deque(np.argsort(-np.array(sizes), kind="stable").tolist())
        self.running: list[Relaxing] = []
        self.statistics = statistics
        self.params = potential.cast(options.dtype)

    def run(self) -> Iterator[tuple[int, RelaxResult]]:
        while self.waiting or self.running:
            started, compiled = time.perf_counter(), compilation_seconds()
            ended = self._fill()
            if self.running:
                self._advance()
                ended += self._take_out() + self._renew_lists()
            self.statistics.seconds += time.perf_counter() - started
            self.statistics.compile_seconds += compilation_seconds() - compiled
            yield from ended

    def _fill(self) -> list[tuple[int, RelaxResult]]:
        """Let waiting structures in while the budget lasts: the largest, and when those no longer fit the smallest.

        Returns those that could not be started.
        """
        failed = []
        load = sum(map(_load, self.running))
        take, put_back = self.waiting.popleft, self.waiting.appendleft
        while self.waiting and (load < self.edges_per_batch or not self.running):
            entering = take()
            try:
                relaxing = entering if isinstance(entering, Relaxing) else self._admit(entering)
            except MlipError as error:
                failed.append((entering, give_up(self.structures[entering], error)))
                continue
            if self.running and load + _load(relaxing) > self.edges_per_batch:
                put_back(relaxing)
                if take == self.waiting.pop:
                    break
                take, put_back = self.waiting.pop, self.waiting.append
                continue
            load += _load(relaxing)
            self.running.append(relaxing)
        return failed

    def _admit(self, index: int) -> Relaxing:
        relaxing = admit(
            index, self.structures[index], self.potential, self.cells[index], self.options, self.keeps_symmetry
        )
        self._make_list(relaxing)
        return relaxing

    def _make_list(self, relaxing: Relaxing) -> None:
        relaxing.make_list(self.potential.cutoff, SKIN)
        self.statistics.n_lists += 1

    def _advance(self) -> None:
        """Pack what runs, let the device step, unpack."""
        running, potential = self.running, self.potential
        n_atoms = [len(r) for r in running]
        shape = _shape_for(
            Shape(sum(n_atoms) + 1, sum(map(_n_edges, running)), len(running) + 1),
            _shapes_compiled(potential.model, self.dtype.name, self.keeps_symmetry),
        )
        graph = pad_batch([r.graph for r in running], shape)
        state = stack(STATE_AXES, [r.state for r in running], shape.n_node, shape.n_graph)
        fixed_axes = FIXED_AXES_WITH_SYMMETRY if self.keeps_symmetry else FIXED_AXES
        fixed = stack(fixed_axes, [r.fixed for r in running], shape.n_node, shape.n_graph)
        limits = self.limits._replace(min_moving=int(np.ceil(_MOVING_FRACTION * len(running))))
        with precision_scope(self.dtype.name):
            state, n_evaluations = jax.device_get(
                advance(
                    potential.model,
                    self.params,
                    potential.metadata.scale,
                    potential.metadata.shift,
                    graph,
                    fixed,
                    state,
                    limits,
                )
            )
        for relaxing, new in zip(running, unstack(STATE_AXES, state, n_atoms), strict=True):
            relaxing.state = new
        self._count(shape, int(n_evaluations), sum(map(_n_edges, running)))

    def _count(self, shape: Shape, n_evaluations: int, n_edges: int) -> None:
        statistics = self.statistics
        statistics.shapes.add(shape)
        statistics.n_calls += 1
        statistics.n_evaluations += n_evaluations
        statistics.n_real_edges += n_evaluations * n_edges
        statistics.n_padded_edges += n_evaluations * shape.n_edge

    def _take_out(self) -> list[tuple[int, RelaxResult]]:
        ended = [r for r in self.running if r.reason is not Reason.RUNNING]
        self.running = [r for r in self.running if r.reason is Reason.RUNNING]
        self.statistics.n_force_calls += sum(int(r.state.fire.n_steps[0]) + 1 for r in ended)
        return [(r.index, finish(r, self.potential)) for r in ended]

    def _renew_lists(self) -> list[tuple[int, RelaxResult]]:
        """New lists for those that wait for one; returns those that cannot have one."""
        failed = []
        for relaxing in [r for r in self.running if r.state.needs_list[0]]:
            try:
                self._make_list(relaxing)
            except MlipError as error:
                self.running.remove(relaxing)
                failed.append((relaxing.index, give_up(relaxing.atoms, error, relaxing)))
        while sum(map(_load, self.running)) > self.edges_per_batch and len(self.running) > 1:
            self.waiting.appendleft(self.running.pop())
        return failed


def _has_fixed_symmetry(atoms: Atoms) -> bool:
    return any(isinstance(constraint, FixSymmetry) for constraint in atoms.constraints)


def _n_edges(relaxing: Relaxing) -> int:
    return len(relaxing.graph.senders)


def _load(relaxing: Relaxing) -> int:
    """What counts against the budget: an atom costs about as much as an edge, and there may be atoms without any."""
    return _n_edges(relaxing) + len(relaxing)


def _shape_for(needed: Shape, compiled: list[Shape]) -> Shape:
    """The smallest shape compiled before that fits and is not much too large, else a new one.

    New ones are of one family, powers of two in edges with the other sizes in proportion, so that they serve for
    batches of few large crystals and of many small ones alike; padding atoms cost no more than padding edges.
    """
    tight = next(shape for shape in _family(needed.n_edge) if _fits(needed, shape))
    fitting = [shape for shape in compiled if _fits(needed, shape) and shape.n_edge <= _SPARE * tight.n_edge]
    if fitting:
        return min(fitting, key=lambda shape: shape.n_edge + shape.n_node)
    compiled.append(tight)
    return tight


def _family(n_edge: int) -> Iterator[Shape]:
    """Shapes with room for so many edges: for dense matter first, then for ever fewer edges an atom, then larger."""
    for power in count((max(_SMALLEST_SHAPE_EDGES, n_edge) - 1).bit_length()):
        for edges_per_atom in (16, 4, 1):
            n_node = 2**power // edges_per_atom
            yield Shape(n_node, 2**power, n_node // 2)


def _fits(needed: Shape, shape: Shape) -> bool:
    return all(size <= room for size, room in zip(needed, shape, strict=True))


@cache
def _shapes_compiled(model, dtype: str, with_symmetry: bool) -> list[Shape]:
    """The shapes that this process has compiled `advance` for."""
    return []
