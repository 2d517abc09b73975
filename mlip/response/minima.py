"""Common steps of all responses: crystals relax, and as they end their strained or displaced copies are computed."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from typing import Any, TypeVar

import numpy as np
from ase import Atoms

from mlip.data.structures import check_occupancies
from mlip.errors import MlipError
from mlip.foreign import ForeignPotential
from mlip.potential import Potential, open_evaluator
from mlip.pretrained import default_potential
from mlip.relaxation.queue import relax, relaxations
from mlip.relaxation.result import RelaxResult
from mlip.relaxation.structures_to_relax import Refused, take_in
from mlip.response.clamped import clamped
from mlip.response.options import ResponseOptions

OK, NOT_CONVERGED, ERROR = "ok", "not_converged", "error"
"""Reasons common to all responses, in addition to those of relaxations without a structure (collapsed, ...)."""
Evaluator = Potential | ForeignPotential
_TOGETHER = 64
"""Number of structures whose responses are computed at once: enough to fill batches, few enough for early results."""
Result = TypeVar("Result")
Plan = TypeVar("Plan")


@dataclass(frozen=True)
class Minimum:
    """A structure for which a response is computed."""

    atoms: Atoms
    """The structure in the axes of the input, without constraints and calculator."""
    reason: str = OK
    message: str | None = None

    @property
    def is_usable(self) -> bool:
        return self.reason in (OK, NOT_CONVERGED)


def open_any(potential: Evaluator | str | PathLike | None) -> Evaluator:
    """Open a potential or calculator; None is the default potential.

    Raises:
        MlipError: see `open_evaluator`.
    """
    return open_evaluator(default_potential() if potential is None else potential)


def stream(
    structures: Any,
    potential: Evaluator,
    options: ResponseOptions,
    plan: Callable[[Minimum], Plan],
    respond: Callable[[list[tuple[Minimum, Plan | None]]], Sequence[Result]],
    together: int = _TOGETHER,
    meanwhile: bool = False,
) -> Iterator[tuple[int, Result]]:
    """Index and response of each structure, in no particular order.

    All structures relax in one stream; a thread plans those that have ended while the device relaxes others. Responses
    are computed `together` at a time, of an ASE calculator one at a time. A slow relaxation holds up fewer than
    `together` others.

    Args:
        plan: returns what the host can prepare of one response, such as its strained copies; calls no potential.
        respond: returns the response of each minimum and its plan, which is None for minima that are not usable.
        meanwhile: compute responses in a thread while other structures relax; for those that take seconds, because an
            interrupt waits for them.
    """
    is_foreign = isinstance(potential, ForeignPotential)
    together = 1 if is_foreign else together
    minima = _minima(take_in(structures), potential, options)
    with ThreadPoolExecutor(1) as planner:
        planned = (
            _Planned(index, minimum, planner.submit(plan, minimum) if minimum.is_usable else None)
            for index, minimum in minima
        )
        groups = _groups(planned, together)
        if is_foreign or not meanwhile:
            for group in groups:
                yield from _responses(group, respond)
            return
        with ThreadPoolExecutor(1) as responder:
            running = None
            for group in groups:
                if running is not None:
                    yield from running.result()
                running = responder.submit(_responses, group, respond)
            if running is not None:
                yield from running.result()


@dataclass(frozen=True)
class _Planned:
    """A minimum whose response is being planned."""

    index: int
    minimum: Minimum
    plan: Future | None


def _groups(planned: Iterable[_Planned], size: int) -> Iterator[list[_Planned]]:
    """The items as they come, `size` at a time."""
    items = iter(planned)
    while group := list(islice(items, size)):
        yield group


def _responses(
    group: list[_Planned], respond: Callable[[list[tuple[Minimum, Any]]], Sequence[Result]]
) -> list[tuple[int, Result]]:
    found = respond([(one.minimum, one.plan.result() if one.plan else None) for one in group])
    return list(zip((one.index for one in group), found, strict=True))


def _minima(
    structures: Sequence[Atoms], potential: Evaluator, options: ResponseOptions
) -> Iterator[tuple[int, Minimum]]:
    """Relaxed copies of structures as their relaxations end, or unrelaxed copies if `options.relax` is False."""
    waiting = []
    for index, atoms in enumerate(structures):
        checked = _checked(atoms)
        if checked.is_usable and options.relax:
            waiting.append((index, checked.atoms))
        else:
            yield index, checked
    if waiting:
        how = {"fmax": options.fmax, "steps": options.steps, "dtype": options.dtype}
        for place, result in relaxations([atoms for _, atoms in waiting], potential, **how):
            yield waiting[place][0], _minimum(result)


def at_fixed_cells(
    structures: Iterable[Atoms], potential: Evaluator, options: ResponseOptions, relax_ions: bool
) -> list[RelaxResult]:
    """Structures with relaxed ions in fixed cells, or evaluated without relaxation."""
    structures = list(structures)
    if not structures:
        return []
    if not relax_ions and isinstance(potential, Potential):
        return clamped(structures, potential, options.fmax, options.dtype)
    steps = options.steps if relax_ions else 0
    return relax(structures, potential, fmax=options.fmax, steps=steps, cell=False, dtype=options.dtype, progress=False)


def bare(atoms: Atoms) -> Atoms:
    """Copy with numbers, positions, cell and periodicity, and with masses that were set explicitly."""
    return _bare(atoms, atoms.positions, atoms.cell)


def _bare(atoms: Atoms, positions: np.ndarray, cell: Any) -> Atoms:
    masses = atoms.get_masses() if atoms.has("masses") else None
    return Atoms(atoms.numbers, positions, masses=masses, cell=cell, pbc=atoms.pbc)


def strained(atoms: Atoms, deformation: np.ndarray) -> Atoms:
    """Copy with cell vectors a replaced by F a and unchanged fractional coordinates."""
    return _bare(atoms, atoms.positions @ deformation.T, atoms.cell.array @ deformation.T)


def fault_of(result: RelaxResult, relax_ions: bool) -> tuple[str, str | None]:
    """Reason and message of a relaxation at a fixed cell, in the form used by responses."""
    if result.failed:
        return result.reason, _without_place(result.message)
    if relax_ions and not result.converged:
        return NOT_CONVERGED, f"forces of {result.fmax:.2g} eV/A after {result.n_steps} steps"
    return OK, None


def told_at(place: str, fault: tuple[str, str | None]) -> tuple[str, str | None]:
    """The fault with `place` added to its message."""
    reason, message = fault
    return (reason, None) if reason == OK else (reason, f"{place}: {message or reason}")


def worst(faults: Iterable[tuple[str, str | None]]) -> tuple[str, str | None]:
    """The most serious of several faults: a failure, then lack of convergence, then none."""
    faults = list(faults)
    gravest = [fault for fault in faults if fault[0] not in (OK, NOT_CONVERGED)]
    unfinished = [fault for fault in faults if fault[0] == NOT_CONVERGED]
    return next(iter(gravest + unfinished), (OK, None))


def _checked(atoms: Atoms) -> Minimum:
    """The structure, or the reason why it has no response."""
    if isinstance(atoms, Refused):
        return Minimum(bare(atoms), ERROR, str(atoms.error))
    try:
        check_occupancies(atoms)
    except MlipError as error:
        return Minimum(bare(atoms), ERROR, str(error))
    if not atoms.pbc.all():
        return Minimum(bare(atoms), ERROR, "has open directions; responses are of crystals, periodic along all three")
    if atoms.constraints:
        return Minimum(
            bare(atoms), ERROR, "has constraints, which change a response; atoms.set_constraint() lifts them"
        )
    if len(atoms) == 0 or not abs(atoms.cell.volume) > 0:
        return Minimum(bare(atoms), ERROR, "has no atoms, or a cell without a volume")
    return Minimum(bare(atoms))


def _minimum(result: RelaxResult) -> Minimum:
    if result.failed:
        return Minimum(bare(result.atoms), result.reason, _without_place(result.message))
    if result.converged:
        return Minimum(bare(result.atoms))
    told = f"the structure: forces of {result.fmax:.2g} eV/A after {result.n_steps} steps"
    return Minimum(bare(result.atoms), NOT_CONVERGED, told)


def _without_place(message: str | None) -> str | None:
    """The message without the structure's index in its batch."""
    return message and re.sub(r"^structure \d+: ", "", message)
