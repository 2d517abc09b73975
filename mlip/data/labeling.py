"""Relaxation paths from any ASE calculator: relax structures and keep every step.

FIRE on ASE's FrechetCellFilter relaxes copies of the structures. Layers and chains follow ALEXANDRIA: the cell is fully
periodic, with 15 A of vacuum along c for a layer, along b and c for a chain, and only the periodic directions relax.
Each material is written to a journal as it ends, so that a killed run can resume where it stopped.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.filters import FrechetCellFilter
from ase.io import iread
from ase.neighborlist import neighbor_list
from ase.optimize import FIRE
from jaxtyping import Float

from mlip.data.alexandria_export import PathWriter, calculations_as_dicts
from mlip.data.records import Frame, Trajectory
from mlip.data.structures import check_occupancies
from mlip.errors import MlipError
from mlip.files.journal import Journal, read_journal, whole_lines
from mlip.files.output_paths import writing_to

FUNCTIONAL = "surrogate"
"""Functional recorded for a calculator's energies, which are not DFT's."""

VACUUM = 15.0
"""Vacuum between a layer or chain and its image, A, as in ALEXANDRIA."""

STRAIN_MASK = {
    3: (True, True, True, True, True, True),
    2: (True, True, False, False, False, True),
    1: (True, False, False, False, False, False),
}
"""Strains xx yy zz yz xz xy that relax, by dimensionality."""

EXPLOSION, COLLAPSE = 4.0, 0.25
"""Largest and smallest ratio of the periodic directions' length, area or volume to its initial value; beyond these, the
path ends."""

NEIGHBOR_DISTANCE = 6.0
"""Distance in A; an atom without a neighbor within it is isolated (the distance of ALEXANDRIA's outlier filter)."""

GUARD_REASONS = ("non_finite", "exploded", "collapsed", "isolated", "error")
"""Reasons for which a path counts as failed and is not exported. The other reasons are 'converged' and 'max_steps'."""


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """Settings that determine a path, apart from the structure; a journal belongs to one set of settings."""

    calculator: str
    """Name of the calculator in records and messages."""
    steps: int = 200
    """Largest number of ionic steps after the first."""
    fmax: float = 0.05
    """Convergence criterion of ASE, eV/A: the longest force on an atom or on a row of the filter's cell."""
    dimensionality: int | None = None
    """1, 2 or 3; None: the number of periodic directions of the structure."""


@dataclass(frozen=True, slots=True)
class LabeledPath:
    """One attempt to relax a material. The trajectory holds what was computed before `reason` ended it."""

    trajectory: Trajectory
    reason: str
    """'converged', 'max_steps' or one of GUARD_REASONS."""
    fmax: float
    """Longest force on an atom or cell row at the end, eV/A; NaN if none was computed."""
    message: str = ""
    """Error message if `reason` is 'error'."""


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """Summary of a journal, and of the paths exported from it."""

    reasons: Counter[str]
    n_exported: int
    n_frames: int
    first_error: str
    """Id and message of the first path that ended in 'error'."""


def read_structures(sources: Iterable[str | Path]) -> Iterator[tuple[str, Atoms | MlipError]]:
    """Ids and structures from files that `ase.io.iread` reads; an error stands in place of structures that cannot be
    read.

    The id is `atoms.info["material_id"]`, else the file's name without its suffix, followed by the structure's index.

    Raises:
        MlipError: a file does not exist, or an id occurs twice.
    """
    seen: set[str] = set()
    for source in map(Path, sources):
        if not source.is_file():
            raise MlipError("no such file", where=str(source), fix="give files that ase.io.iread reads")
        for index, atoms in enumerate(_iread(source)):
            own_id = None if isinstance(atoms, MlipError) else atoms.info.get("material_id")
            material_id = str(own_id or f"{source.stem}-{index:06d}")
            if material_id in seen:
                raise MlipError(f"material id '{material_id}' comes twice", where=str(source))
            seen.add(material_id)
            yield material_id, atoms


def _iread(source: Path) -> Iterator[Atoms | MlipError]:
    n_structures = 0
    try:
        for atoms in iread(str(source), index=":", do_not_split_by_at_sign=True):
            n_structures += 1
            yield atoms
        if not n_structures:
            yield MlipError("holds no structure", where=str(source))
    except Exception as error:  # each of ASE's hundred readers fails in its own way
        yield MlipError(f"ASE cannot read it: {str(error) or type(error).__name__}", where=str(source))


def standard_setting(atoms: Atoms, dimensionality: int | None = None) -> tuple[Atoms, int]:
    """Copy of a structure in ALEXANDRIA's setting, and its dimensionality.

    Layers lie in the xy plane (a along x), chains along x. Directions without a lattice vector get one that leaves
    VACUUM, and all directions become periodic. The input is not modified.

    Args:
        dimensionality: 1, 2 or 3; None: the number of periodic directions.

    Raises:
        MlipError: no direction is periodic, or the open directions are not c (layer), or b and c (chain).
    """
    pbc = tuple(bool(periodic) for periodic in atoms.pbc)
    dimensionality = sum(pbc) if dimensionality is None else dimensionality
    open_axes = tuple(range(dimensionality, 3))
    if dimensionality not in STRAIN_MASK or not all(pbc[:dimensionality]):
        raise MlipError(
            f"periodic along {pbc}, which is no crystal, no layer in ab and no chain along a",
            fix="permute the axes so that the periodic directions come first",
        )
    copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    missing = [axis for axis in open_axes if not atoms.cell[axis].any()]
    if missing:
        copy.set_cell(copy.cell.complete())
        copy.center(vacuum=VACUUM / 2, axis=missing)
    if open_axes:
        copy.set_cell(copy.cell.standard_form()[0], scale_atoms=True)
    copy.pbc = True
    return copy, dimensionality


def label_structure(
    material_id: str, atoms: Atoms | MlipError, calculator: BaseCalculator, settings: LabelSettings
) -> LabeledPath:
    """Relax a copy of `atoms` and keep energy, forces and stress of every ionic step, including the first.

    Any exception, of the calculator or because the cell or its boundaries cannot be relaxed, gives the reason 'error'
    with its message, so that a bad structure ends only its own path.
    """
    if isinstance(atoms, MlipError):
        nothing = Trajectory(material_id, [], FUNCTIONAL, settings.dimensionality or 3)
        return LabeledPath(nothing, "error", float("nan"), str(atoms))
    dimensionality = settings.dimensionality or int(atoms.pbc.sum())
    frames: list[Frame] = []
    message, fmax, reason = "", float("nan"), "error"
    try:
        check_occupancies(atoms)
        copy, dimensionality = standard_setting(atoms, settings.dimensionality)
        copy.calc = calculator
        reason, fmax = _relax(copy, dimensionality, settings, frames)
    except MlipError as error:
        message = str(error)
    except Exception as error:  # any exception of any calculator: recorded, counted and reported at the end
        message = f"{type(error).__name__}: {error}"
    trajectory = Trajectory(material_id, frames, FUNCTIONAL, dimensionality)
    return LabeledPath(trajectory, reason, fmax, message)


def _relax(atoms: Atoms, dimensionality: int, settings: LabelSettings, frames: list[Frame]) -> tuple[str, float]:
    """Append a frame to `frames` for each step; returns the reason for the end, and the last fmax, eV/A."""
    target = _GuardedFilter(atoms, dimensionality)
    optimizer = FIRE(target, logfile=None)
    fmax = float("nan")
    try:
        for _ in optimizer.irun(fmax=settings.fmax, steps=settings.steps):
            frame = _frame(atoms, ionic_step=len(frames))
            if not _is_finite(frame):
                return "non_finite", fmax
            frames.append(frame)
            fmax = float(np.linalg.norm(target.get_forces(), axis=1).max())  # atoms and cell rows
    except _Stopped as stopped:
        return stopped.reason, fmax
    if _has_isolated_atom(atoms):
        return "isolated", fmax
    return ("converged" if fmax < settings.fmax else "max_steps"), fmax


class _Stopped(Exception):  # noqa: N818 - the end of a path, not an error
    def __init__(self, reason: str):
        self.reason = reason


class _GuardedFilter(FrechetCellFilter):
    """Cell filter that stops the path when the cell leaves its bounds, before the calculator sees it: in a collapsed
    cell, the neighbors of one step can fill the memory.

    It also caches its forces until the atoms move: ASE asks for them three times a step, and each time costs a matrix
    logarithm.
    """

    def __init__(self, atoms: Atoms, dimensionality: int):
        super().__init__(atoms, mask=STRAIN_MASK[dimensionality])
        self._dimensionality = dimensionality
        self._initial_extent = _periodic_extent(atoms, dimensionality)
        self._forces = None

    def get_forces(self, **kwargs) -> Float[np.ndarray, "n+3 3"]:
        if self._forces is None:
            self._forces = super().get_forces(**kwargs)
        return self._forces.copy()

    def set_positions(self, new: Float[np.ndarray, "n+3 3"], **kwargs) -> None:
        self._forces = None
        super().set_positions(new, **kwargs)
        ratio = _periodic_extent(self.atoms, self._dimensionality) / self._initial_extent
        if not np.isfinite(ratio):
            raise _Stopped("non_finite")
        if not COLLAPSE < ratio < EXPLOSION:
            raise _Stopped("collapsed" if ratio < 1 else "exploded")


def _is_finite(frame: Frame) -> bool:
    labels = np.concatenate([[frame.energy], frame.forces.ravel(), frame.stress])
    return bool(np.isfinite(labels).all())


def _frame(atoms: Atoms, ionic_step: int) -> Frame:
    return Frame(
        numbers=atoms.numbers.astype(np.int16),
        positions=atoms.positions.copy(),
        cell=atoms.cell.array.copy(),
        pbc=atoms.pbc.copy(),
        energy=float(atoms.get_potential_energy()),
        forces=np.array(atoms.get_forces(), dtype=np.float64),
        stress=np.array(atoms.get_stress(), dtype=np.float64),
        ionic_step=ionic_step,
    )


def _periodic_extent(atoms: Atoms, dimensionality: int) -> float:
    """Length of a chain (A), area of a layer (A^2) or volume of a crystal (A^3)."""
    vectors = atoms.cell.array[:dimensionality]
    return float(np.sqrt(np.linalg.det(vectors @ vectors.T)))


def _has_isolated_atom(atoms: Atoms) -> bool:
    return len(np.unique(neighbor_list("i", atoms, NEIGHBOR_DISTANCE))) < len(atoms)


def label(
    structures: Iterable[tuple[str, Atoms | MlipError]],
    calculator: BaseCalculator,
    journal: str | Path,
    settings: LabelSettings,
    on_path: Callable[[str, str], None] = lambda material_id, reason: None,
) -> None:
    """Label every structure whose id is not in the journal yet, appending each result as it ends.

    Args:
        structures: (material id, structure) pairs; an error in place of a structure becomes that material's record.
        journal: JSON lines: the settings, then one line per material, each flushed to disk.
        on_path: called with id and reason of every structure, whether labeled now or found in the journal.

    Raises:
        MlipError: the journal was written with other settings, or another process appends to it.
    """
    journal = Path(journal)
    with writing_to(journal):
        journal.parent.mkdir(parents=True, exist_ok=True)
        opened = Journal(journal)
    with opened:
        done = _go_on(opened, settings)
        for material_id, atoms in structures:
            if material_id not in done:
                path = label_structure(material_id, atoms, calculator, settings)
                opened.append(_record(path))
                done[material_id] = path.reason
            on_path(material_id, done[material_id])


def _record(path: LabeledPath) -> dict[str, Any]:
    return {
        "id": path.trajectory.material_id,
        "reason": path.reason,
        "message": path.message,
        "fmax": None if np.isnan(path.fmax) else round(path.fmax, 5),
        "n_steps": len(path.trajectory.frames) - 1,
        "calculations": calculations_as_dicts(path.trajectory.frames),
    }


_BEGIN = b'{"settings":'
"""First bytes of a journal."""


def _go_on(journal: Journal, settings: LabelSettings) -> dict[str, str]:
    """Reason by id of each material in the journal. Starts an empty journal; removes a truncated last line."""
    with journal.path.open("rb") as file:
        if not _BEGIN.startswith(file.read(len(_BEGIN))):
            raise MlipError(
                "is no journal of `mlip label`", where=str(journal.path), fix="choose another name for the output"
            )
    done, complete = {}, 0
    for record, line in whole_lines(journal.path):
        if complete:
            done[record["id"]] = record["reason"]
        else:
            _check_settings(record["settings"], settings, journal.path)
        complete += len(line)
    journal.cut(complete)
    if not complete:
        journal.append({"settings": asdict(settings)})
    return done


def _check_settings(written: dict[str, Any], settings: LabelSettings, journal: Path) -> None:
    if written != asdict(settings):
        changed = [name for name, value in asdict(settings).items() if written.get(name) != value]
        raise MlipError(
            f"was begun with another {' and '.join(changed)}",
            where=str(journal),
            fix="repeat the command as it was, or delete the file to start over",
        )


def labeled_materials(journal: str | Path) -> Iterator[dict]:
    """Materials of a journal, one dict at a time: id, reason, message, fmax, n_steps, calculations."""
    return islice(read_journal(Path(journal)), 1, None)  # the first line holds the settings


def export_journal(journal: str | Path, out: str | Path, converged_only: bool = False) -> LabelSummary:
    """Write all good paths of the journal to `out` (.json or .json.bz2) in ALEXANDRIA's layout, atomically.

    Paths that a guard ended are left out, and with `converged_only` those that ran out of steps, too; both are counted
    by reason.
    """
    left_out = {*GUARD_REASONS, "max_steps"} if converged_only else set(GUARD_REASONS)
    reasons, n_frames, first_error = Counter(), 0, ""
    with PathWriter(out) as writer:
        for record in labeled_materials(journal):
            reasons[record["reason"]] += 1
            if record["reason"] == "error" and not first_error:
                first_error = f"{record['id']}: {record['message']}"
            if record["reason"] not in left_out:
                writer.add_calculations(record["id"], record["calculations"])
                n_frames += sum(len(calculation["steps"]) for calculation in record["calculations"])
    return LabelSummary(reasons, len(writer), n_frames, first_error)
