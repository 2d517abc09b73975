"""Outcomes of VASP runs: structure and energy of finished ones, the reason for all others.

A run only counts if it matches the table of the hand-over: the same elements in the same amounts, functional, U,
cutoff, pseudopotentials, k-points (denser grids are accepted), spin, and criterion for the end of the relaxation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.formula import Formula

from mlip.data.readers.vasp_run import VaspRun, find_vasprun
from mlip.data.records import Frame
from mlip.data.structures import to_pymatgen
from mlip.dft.known_runs import KnownRuns
from mlip.dft.recipe import VaspRecipe
from mlip.dft.records import (
    FINISHED,
    NO_INPUTS,
    NOT_READABLE,
    NOT_STARTED,
    OTHER_FUNCTIONAL,
    OTHER_SETTINGS,
    OTHER_STRUCTURE,
    STEPS_USED_UP,
    STOPPED,
    UNFINISHED,
    VACUUM_CHANGED,
    VANISHED,
    Outcome,
)
from mlip.dft.table import Row
from mlip.errors import MlipError
from mlip.files.whole_file import whole_file
from mlip.functionals import relation_of_functionals

_OF_A_RUN = ("OUTCAR", "OUTCAR.gz", "OSZICAR", "OSZICAR.gz", "vasprun.xml.tmp")
"""Files that show that a run was started in a folder without vasprun.xml."""
_U_DIGIT = 0.005
"""Tolerance of U, eV; vasprun.xml has three or more decimals."""
_CUTOFF_DIGIT = 0.5
"""Tolerance of the cutoff, eV."""
_VACUUM_CHANGE = 0.01
"""Largest relative change of the cell's length across a vacuum."""
_PARTLY_CONVERGED = 2.0
"""Largest ratio of force to criterion of a converged run. A run that converged has no force above its criterion, apart
from rounding and drift; one above this ratio was told to stop."""
_SAME_PLACE = 0.02
"""Largest displacement between a single point's and the relaxed atoms, A: the rounding of CONTCAR and vasprun.xml."""


@dataclass(frozen=True)
class _Asked:
    """The settings that a run must have."""

    formula: str
    functional: str
    hubbard: dict[str, float]
    encut: float
    potcars: tuple[str, ...]
    kpoints: tuple[int, ...]
    is_relaxation: bool
    force: float | None
    """Force at which the relaxation must end, eV/A; None: any criterion."""

    @classmethod
    def relaxation(cls, recipe: VaspRecipe, row: Row) -> "_Asked":
        return cls(
            formula=row.formula,
            functional=row.functional,
            hubbard=row.hubbard_values,
            encut=float(row.encut),
            potcars=tuple(row.potcars.split()),
            kpoints=row.grid,
            is_relaxation=True,
            force=recipe.force_convergence,
        )

    def single_point(self, functional: str) -> "_Asked":
        """The settings of a single point: the same, but without Hubbard corrections."""
        return replace(self, functional=functional, hubbard={}, is_relaxation=False, force=None)


def collect_vasp(recipe: VaspRecipe, rows: Sequence[Row], folder: Path, *, workers: int) -> list[Outcome]:
    """The outcome of each row, in order. Single points of finished relaxations get their POSCAR.

    Args:
        workers: number of processes that read files.
    """
    calculated = [folder / row.folder for row in rows if not row.refused]
    places = [place / inside for place in calculated for inside in ("", *recipe.follow_ups)]
    files = {place: find_vasprun(place) for place in places}
    runs = KnownRuns(folder, workers)
    runs.read([path for path in files.values() if path is not None])
    judge = _Judge(recipe, folder, files, runs)
    return [judge.outcome(row) for row in rows]


@dataclass(frozen=True)
class _Judge:
    """Judges the runs of a hand-over."""

    recipe: VaspRecipe
    folder: Path
    files: Mapping[Path, Path | None]
    """Folder of a run -> its vasprun.xml; None without one."""
    runs: KnownRuns

    def outcome(self, row: Row) -> Outcome:
        if row.refused:
            return Outcome(row.id, NO_INPUTS, row.refused)
        place = self.folder / row.folder
        if not place.is_dir():
            return Outcome(row.id, VANISHED, f"{row.folder}/ is no longer there", source=row.folder)
        asked = _Asked.relaxation(self.recipe, row)
        outcome = self._judged(row.id, asked, place)
        if outcome.reason != FINISHED:
            return outcome
        if changed := _change_of_vacuum(row, outcome.frame):
            return replace(outcome, reason=VACUUM_CHANGED, message=changed, frame=None)
        return self._with_follow_ups(asked, outcome, place)

    def _judged(self, name: str, asked: _Asked, place: Path) -> Outcome:
        """The outcome of the run in a folder."""
        path = self.files[place]
        source = str((path or place).relative_to(self.folder))
        if path is None:
            started = [file for file in _OF_A_RUN if (place / file).exists()]
            if not started:
                return Outcome(name, NOT_STARTED, source=source)
            return Outcome(name, UNFINISHED, f"{started[0]}, but no vasprun.xml", source=source)
        try:
            run = self.runs[path]
        except MlipError as error:
            return Outcome(name, NOT_READABLE, error.what, source=source)
        if run is None:
            return Outcome(name, UNFINISHED, "no ionic step is done", source=source)
        reason, message = _verdict(run, asked)
        return Outcome(
            name,
            reason,
            message,
            frame=run.last if reason == FINISHED else None,
            functional=run.functional or "unknown",
            n_steps=run.n_steps,
            source=source,
        )

    def _with_follow_ups(self, asked: _Asked, outcome: Outcome, place: Path) -> Outcome:
        energies, told = {}, []
        for functional in self.recipe.follow_ups:
            inside = place / functional
            if not inside.is_dir():
                told.append(f"{functional}: {VANISHED}")
                continue
            _put_structure(outcome.frame, inside)
            single = self._judged(outcome.id, asked.single_point(functional), inside)
            if single.reason == FINISHED and (why := _elsewhere(single.frame, outcome.frame)):
                single = replace(single, reason=OTHER_STRUCTURE, message=why)
            if single.reason == FINISHED:
                energies[functional] = single.frame.energy
            elif single.reason != NOT_STARTED:
                told.append(f"{functional}: {single.reason}" + (f" ({single.message})" if single.message else ""))
        return replace(outcome, follow_ups=energies, message="; ".join(told))


def _verdict(run: VaspRun, asked: _Asked) -> tuple[str, str]:
    """Reason and message: first whether the run has the requested settings, then how far it came."""
    formula = Formula.from_list([_symbol(z) for z in run.numbers]).format("hill")
    if formula != asked.formula:
        return OTHER_STRUCTURE, f"the run is of {formula}, and {asked.formula} was handed over"
    if other := _other_functional(run, asked):
        return OTHER_FUNCTIONAL, other
    if others := _other_settings(run, asked):
        return OTHER_SETTINGS, "; ".join(others)
    if run.is_damaged:
        return NOT_READABLE, f"the file is damaged behind ionic step {run.n_steps}"
    if not run.is_complete:
        return UNFINISHED, f"{run.n_steps} ionic steps, and no end: it runs still, or was killed"
    if isinstance(run.last, str):
        return run.last, f"ionic step {run.n_steps}, the last one"
    if not (np.isfinite(run.last.positions).all() and np.isfinite(run.last.cell).all()):
        return NOT_READABLE, "the last structure's positions or cell are no numbers"
    if asked.is_relaxation:
        return _relaxed(run)
    return FINISHED, ""


def _relaxed(run: VaspRun) -> tuple[str, str]:
    force, criterion = run.largest_force, run.force_criterion
    if run.n_steps >= run.most_steps and not (criterion is not None and force < criterion):
        return STEPS_USED_UP, f"{run.n_steps} of {run.most_steps} ionic steps, largest force {force:.3f} eV/A"
    if criterion is not None and force > _PARTLY_CONVERGED * criterion:
        return STOPPED, f"largest force {force:.3f} eV/A after {run.n_steps} ionic steps, asked for {criterion:g}"
    return FINISHED, ""


def _other_functional(run: VaspRun, asked: _Asked) -> str:
    """Message that names both sides if functional or U differ; else empty."""
    ours, theirs = _with_values(asked.functional, asked.hubbard), run.functional or "unknown"
    if relation_of_functionals(asked.functional, theirs) != "same":
        return f"the run is of {_with_values(theirs, run.hubbard)}, asked for {ours}"
    elements = asked.hubbard.keys() | run.hubbard.keys()
    if any(abs(asked.hubbard.get(e, 0.0) - run.hubbard.get(e, 0.0)) > _U_DIGIT for e in elements):
        return f"the run is of {_with_values(theirs, run.hubbard)}, asked for {ours}"
    return ""


def _with_values(functional: str, hubbard: dict[str, float]) -> str:
    values = ", ".join(f"U({element}) = {u:g} eV" for element, u in sorted(hubbard.items()))
    return f"{functional} with {values}" if values else functional


def _other_settings(run: VaspRun, asked: _Asked) -> list[str]:
    others = []
    if run.cutoff is None or abs(run.cutoff - asked.encut) > _CUTOFF_DIGIT:
        told = "unknown" if run.cutoff is None else f"{run.cutoff:g} eV"
        others.append(f"the run's cutoff is {told}, asked for {asked.encut:g} eV")
    titles = tuple(title.split()[1] if len(title.split()) > 1 else title for title in run.potcars)
    if sorted(titles) != sorted(asked.potcars):
        others.append(f"the run's pseudopotentials are {' '.join(titles)}, asked for {' '.join(asked.potcars)}")
    if foreign := [title for title in run.potcars if not title.startswith("PAW_PBE")]:
        others.append(f"the run's pseudopotential {foreign[0]} is none of PBE")
    if run.kpoints is not None and any(n < least for n, least in zip(run.kpoints, asked.kpoints, strict=True)):
        grids = ["x".join(map(str, grid)) for grid in (run.kpoints, asked.kpoints)]
        others.append(f"the run's k-points are {grids[0]}, asked for {grids[1]}")
    if not run.is_spin_polarized:
        others.append("the run is not spin-polarized")
    if asked.is_relaxation and run.most_steps == 0:
        others.append("the run is a single point, asked for a relaxation")
    elif asked.is_relaxation and not run.relaxes_cell:
        others.append("the run keeps its cell, asked for ISIF = 3")
    elif asked.force is not None and (run.force_criterion or math.inf) > asked.force * 1.001:
        told = "by energies" if run.force_criterion is None else f"at forces of {run.force_criterion:g} eV/A"
        others.append(f"the run ends {told}, asked for {asked.force:g} eV/A")
    elif not asked.is_relaxation and run.most_steps > 1:
        others.append("the run is a relaxation, asked for a single point")
    return others


def _change_of_vacuum(row: Row, frame: Frame) -> str:
    lengths = np.linalg.norm(frame.cell, axis=1)[row.dimensionality :]
    for axis, (length, asked) in enumerate(zip(lengths, row.vacuum_lengths, strict=True), start=row.dimensionality):
        if abs(length / asked - 1) > _VACUUM_CHANGE:
            told = f"|{'abc'[axis]}| is {length:.2f} A, handed over with {asked:.2f} A"
            return f"{told}: this VASP ignored LATTICE_CONSTRAINTS"
    return ""


def _put_structure(relaxed: Frame, inside: Path) -> None:
    """Write the relaxed structure as POSCAR, unless the file exists."""
    from pymatgen.io.vasp.inputs import Poscar

    path = inside / "POSCAR"
    if not path.exists():
        with whole_file(path, durable=False) as new:
            new.write_text(Poscar(to_pymatgen(relaxed)).get_str(), encoding="utf-8")


def _elsewhere(single: Frame, relaxed: Frame) -> str:
    """Message if the structure of a single point differs from the relaxed one; else empty."""
    moved = float("inf")
    if np.array_equal(single.numbers, relaxed.numbers) and np.abs(single.cell - relaxed.cell).max() <= _SAME_PLACE:
        fractional = (single.positions - relaxed.positions) @ np.linalg.inv(relaxed.cell)
        moved = float(np.abs((fractional - np.round(fractional)) @ relaxed.cell).max())
    return "" if moved <= _SAME_PLACE else "its structure is not the relaxed one"


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return chemical_symbols[number]
