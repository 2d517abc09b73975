"""The first step of all responses: relaxes the crystal, or gives the reason why it has no response."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeVar

import numpy as np
from ase import Atoms

from mlip.data.structures import check_occupancies
from mlip.errors import MlipError
from mlip.foreign import ForeignPotential
from mlip.potential import Potential, open_evaluator
from mlip.pretrained import default_potential
from mlip.relaxation.queue import relax
from mlip.relaxation.result import RelaxResult
from mlip.relaxation.structures_to_relax import Refused, take_in
from mlip.response.options import ResponseOptions

OK, NOT_CONVERGED, ERROR = "ok", "not_converged", "error"
"""Reasons common to all responses, in addition to those of relaxations without a structure (collapsed, ...)."""
Evaluator = Potential | ForeignPotential
_TOGETHER = 64
"""Number of structures whose relaxations share batches: enough to fill them, few enough to get results early."""
Result = TypeVar("Result")


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


def in_parts(
    structures: Any, responses: Callable[[list[Atoms]], Sequence[Result]], together: int = _TOGETHER
) -> Iterator[tuple[int, Result]]:
    """Index and response of each structure, in order, computed for `together` structures at a time."""
    inputs = take_in(structures)
    for first in range(0, len(inputs), together):
        part = inputs[first : first + together]
        for k, result in enumerate(responses(part)):
            yield first + k, result


def minima(structures: Sequence[Atoms], potential: Evaluator, options: ResponseOptions) -> list[Minimum]:
    """Relaxed copies of structures, or unrelaxed copies if `options.relax` is False."""
    found = [_checked(atoms) for atoms in structures]
    usable = [k for k, one in enumerate(found) if one.is_usable]
    if options.relax and usable:
        atoms = [found[k].atoms for k in usable]
        results = relax(atoms, potential, fmax=options.fmax, steps=options.steps, dtype=options.dtype, progress=False)
        for k, result in zip(usable, results, strict=True):
            found[k] = _minimum(result)
    return found


def at_fixed_cells(
    structures: Iterable[Atoms], potential: Evaluator, options: ResponseOptions, relax_ions: bool
) -> list[RelaxResult]:
    """Structures with relaxed ions in fixed cells, or evaluated without relaxation."""
    steps = options.steps if relax_ions else 0
    structures = list(structures)
    if not structures:
        return []
    return relax(structures, potential, fmax=options.fmax, steps=steps, cell=False, dtype=options.dtype, progress=False)


def bare(atoms: Atoms) -> Atoms:
    """Copy with numbers, positions, cell and periodicity, and with masses that were set explicitly."""
    masses = atoms.get_masses() if atoms.has("masses") else None
    return Atoms(atoms.numbers, atoms.positions, masses=masses, cell=atoms.cell, pbc=atoms.pbc)


def strained(atoms: Atoms, deformation: np.ndarray) -> Atoms:
    """Copy with cell vectors a replaced by F a and unchanged fractional coordinates."""
    moved = bare(atoms)
    moved.set_cell(atoms.cell.array @ deformation.T, scale_atoms=True)
    return moved


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
