"""Reader of VASP runs from their OUTCAR (.gz, .bz2; OUTCAR.a, OUTCAR_relax1, mp-1.OUTCAR, ...), by the rules of `vasp`.

An ionic step lies between two blocks "FREE ENERGIE OF THE ION-ELECTRON SYSTEM". The second block gives its energy at
sigma -> 0, with the dispersion energy; old versions of VASP left that out there, and such a step is dropped. Steps
whose electrons did not converge within NELM are dropped and counted. Predictions of a force field (VASP's ML tags) are
not labels. A killed run gives the steps that it wrote. Several runs in one file form one path if they are of one
material.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mlip.data.readers.naming import functional_by_file_name, settled_functional
from mlip.data.readers.pymatgen_json import NO_ENERGY, NO_FORCES
from mlip.data.readers.restarts import RESTART, is_same_geometry
from mlip.data.readers.streams import OnBytes, read_lines
from mlip.data.readers.vasp import NO_STEP, NOT_CONVERGED, material_id
from mlip.data.readers.vasp_functional import TAGS, functional_of_run
from mlip.data.records import Frame, MalformedError, Skipped, Trajectory
from mlip.data.schema import end_mark
from mlip.errors import MlipError
from mlip.units import stress_from_vasp

NO_DISPERSION = "energy without its dispersion term"
PREDICTED = "predicted by a force field"
BAD_STRUCTURE = "structure is incomplete"

_NAME = re.compile(r"(.*[._-])?outcar([._-]?\w[\w.-]*)?", re.IGNORECASE)
_OTHER_FORMATS = re.compile(
    r"\.(extxyz|xyz|json|db|aselmdb|traj|cif|vasp|h5|hdf5|csv|dat|log|md|pdf|png|py|sh|tar|txt|zip)(\.gz|\.bz2)?$"
)

_VERSION = re.compile(r"\s*vasp\.(\d+\.\d+[.\d]*)")
_TAG = re.compile(rf"(?<![A-Z_])({'|'.join(TAGS)})\s*=\s*([^\s;]*)", re.IGNORECASE)
_NELM = re.compile(r"\bNELM\s*=\s*(\d+)")
_N_IONS = re.compile(r"NIONS\s*=\s*(\d+)")
_ITERATION = re.compile(r"-+ Iteration\s+\d+\(\s*\d+\)")
_FREE_ENERGY = re.compile(r"\s*free\s+energy\s+TOTEN\s*=\s*(\S+)")
_SIGMA_0 = re.compile(r"\s*energy\s+without\s+entropy\s*=.*energy\(sigma->0\)\s*=\s*(\S+)")
_DISPERSION = re.compile(r"(?:Edisp|Estimated vdW energy)\s*\(eV\)\s*:?\s*(\S+)")
_DISPERSION_SINCE = (5, 4)
"""Version from which the energy at the end of an ionic step certainly includes the dispersion term."""


def is_outcar(path: Path) -> bool:
    """Whether a file is read as the OUTCAR of a VASP run."""
    return _NAME.fullmatch(path.name) is not None and _OTHER_FORMATS.search(path.name.lower()) is None


def read(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
    name: str | None = None,
) -> Iterator[Trajectory | Skipped]:
    """Relaxation (or single step) of a run, as one material.

    Args:
        functional: functional of a run whose tags and POTCARs do not state it.
        dimensionality: 1, 2 or 3; None means 3.
        name: name of the file among the sources. The material's id is its folder, or the file's own name.

    Raises:
        MlipError: the file is not an OUTCAR, or nothing states the functional.
    """
    own_id = material_id(name or path.name)
    runs = [_Run()]
    fault = None
    try:
        _read_lines(read_lines(path, on_bytes, "latin-1"), runs)
    except MlipError as error:  # damaged compression: what comes before is sound
        fault = error
    except MalformedError as malformed:
        yield malformed.as_skipped(own_id, str(path))
        return
    if any(run.is_outcar for run in runs):
        try:
            yield _trajectory(runs, own_id, path, functional, dimensionality)
        except MalformedError as malformed:
            yield malformed.as_skipped(own_id, str(path))
    if fault:
        raise fault
    if not any(run.is_outcar for run in runs):
        raise MlipError("not an OUTCAR of VASP", where=str(path))


def _trajectory(
    runs: "list[_Run]", own_id: str, path: Path, functional: str | None, dimensionality: int | None
) -> Trajectory:
    frames, dropped = _path_of(runs)
    if not frames:
        raise MalformedError(NO_STEP, ", ".join(f"{n} x {why}" for why, n in dropped.items()) or "no step at all")
    names = dict.fromkeys(run.functional() for run in runs if run.frames)
    if len(names) > 1:
        raise MalformedError("several functionals in one file", ", ".join(map(str, names)))
    settled = settled_functional(functional, next(iter(names)), path, functional_by_file_name)
    return Trajectory(own_id, frames, settled, dimensionality or 3, end_mark(runs[-1].lost_end), dropped)


@dataclass(slots=True)
class _Run:
    """State of a run after the lines that have been read."""

    version: str | None = None
    most_electronic_steps: int = 60
    n_ions: int = 0
    counts: list[int] = field(default_factory=list)
    """Number of ions of each species."""
    titles: list[str] = field(default_factory=list)
    """Titles of the POTCARs, one per species, from lines "TITEL"."""
    potcars: list[str] = field(default_factory=list)
    """Titles of the POTCARs from lines "POTCAR:", all of which VASP writes twice."""
    elements: list[str] = field(default_factory=list)
    """Elements of the species, from lines "VRHFIN =Cu: d10 p1"."""
    tags: dict[str, str] = field(default_factory=dict)
    is_outcar: bool = False
    has_begun: bool = False
    """Whether an electronic step has been read, so that the header is over."""
    n_steps: int = 0
    frames: list[Frame] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    lost_end: bool = False
    """Whether the last ionic step so far gives no frame."""

    @property
    def n_sites(self) -> int:
        return self.n_ions or sum(self.counts)

    def species(self) -> list[str]:
        """Titles of the POTCARs in their order, or the elements if there are no titles."""
        titles = self.titles[: len(self.counts)] if self.counts else self.titles
        return titles or self.potcars[: (len(self.potcars) + 1) // 2] or self.elements

    def drop(self, reason: str) -> None:
        """Count an ionic step that gives no frame."""
        self.n_steps += 1
        self.dropped[reason] += 1
        self.lost_end = True

    def numbers(self) -> np.ndarray:
        """Atomic numbers of the ions.

        Raises:
            MalformedError: the header does not state them.
        """
        elements = [_atomic_number(title) for title in self.species()]
        if not elements or len(elements) != len(self.counts):
            raise MalformedError("species are not told", f"{len(elements)} POTCARs, ions per type {self.counts}")
        return np.repeat(np.array(elements, dtype=np.int16), self.counts)

    def functional(self) -> str | None:
        return functional_of_run(self.tags, self.species(), self.version)


@dataclass(slots=True)
class _Step:
    """An ionic step, as far as it has been read."""

    n_electronic: int = 0
    electronic_energy: float = np.nan
    """Free energy of the last electronic step, eV."""
    free_energy: float = np.nan
    dispersion: float = 0.0
    cell: list[list[float]] | None = None
    sites: list[list[float]] | None = None
    """Position (A) and force (eV/A) of each ion."""
    stress: list[float] | None = None
    """Stress in kB, in the order XX YY ZZ XY YZ ZX, with VASP's sign."""
    magmoms: list[float] | None = None
    is_collinear: bool = True


def _read_lines(lines: Iterator[str], runs: list[_Run]) -> None:
    """Parse all runs of a file, one after another, into `runs`."""
    step = _Step()
    ends = False
    cell = None
    for line in lines:
        run = runs[-1]
        if run.has_begun and (line.startswith(" vasp.") or "POTCAR:" in line):  # a further run in this file
            runs.append(run := _Run())
            step, ends, cell = _Step(), False, None
        if not run.has_begun:
            _read_header(line, lines, run)
        if "Iteration" in line and _ITERATION.match(line):
            run.has_begun = run.is_outcar = True
            step.n_electronic += 1
            ends = False
        elif "TOTEN" in line and (found := _FREE_ENERGY.match(line)):
            if ends:
                step.free_energy = _number(found[1])
            else:
                step.electronic_energy = _number(found[1])
        elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
            ends = "ML" not in line
            if not ends:
                run.drop(PREDICTED)
                step = _Step()
        elif ends and "sigma->0" in line and (found := _SIGMA_0.match(line)):
            step.cell = step.cell or cell
            _end_step(run, step, _number(found[1]))
            step, ends = _Step(), False
        elif "direct lattice vectors" in line:
            cell = step.cell = _rows(lines, 3, 3)
        elif "POSITION" in line and "TOTAL-FORCE" in line and "ML" not in line:
            next(lines, None)
            step.sites = _rows(lines, run.n_sites, 6)
        elif "in kB" in line and line.lstrip().startswith("in kB"):
            step.stress = _numbers(line.partition("kB")[2], 6)
        elif "magnetization (" in line:
            step.magmoms = _magmoms(lines, run.n_sites)
            step.is_collinear = "(x)" in line
        elif "(eV)" in line and (found := _DISPERSION.search(line)):
            step.dispersion = _number(found[1])
        elif "VDW" in line and run.has_begun:
            run.tags |= _tags(line)


def _read_header(line: str, lines: Iterator[str], run: _Run) -> None:
    if found := _VERSION.match(line):
        run.version, run.is_outcar = found[1], True
    elif "TITEL" in line:
        run.titles.append(line.partition("=")[2].strip())
    elif "POTCAR:" in line:
        run.is_outcar = True
        run.potcars.append(line.partition("POTCAR:")[2].strip())
    elif "VRHFIN" in line:
        run.elements.append(line.partition("=")[2].partition(":")[0].strip())
    elif "ions per type" in line:
        run.counts = [int(count) for count in line.partition("=")[2].split() if count.isdigit()]
        while sum(run.counts) < run.n_ions and (more := next(lines, "").split()) and all(map(str.isdigit, more)):
            run.counts += map(int, more)
    elif found := _N_IONS.search(line):
        run.n_ions = int(found[1])
    elif found := _NELM.search(line):
        run.most_electronic_steps = int(found[1])
    elif "LDA+U is selected" in line:
        run.tags["LDAU"] = "T"
    elif "=" in line and "SYSTEM" not in line:  # SYSTEM is free text
        run.tags |= _tags(line)


def _tags(line: str) -> dict[str, str]:
    """Tags in a line. A METAGGA of T or F is left out: it is a flag of the same name with another meaning."""
    text = re.split(r"[#!]", line, maxsplit=1)[0]
    found = {tag.upper(): value for tag, value in _TAG.findall(text)}
    return {tag: value for tag, value in found.items() if not (tag == "METAGGA" and value in ("F", "T", ""))}


def _end_step(run: _Run, step: _Step, energy: float) -> None:
    if step.dispersion and not {"IVDW", "LVDW"} & run.tags.keys():
        run.tags["IVDW"] = "not told"
    found = _frame(run, step, run.n_steps, energy)
    if isinstance(found, str):
        run.drop(found)
    else:
        run.n_steps += 1
        run.frames.append(found)
        run.lost_end = False


def _frame(run: _Run, step: _Step, index: int, energy: float) -> Frame | str:
    """Frame of a step, or the reason to drop it."""
    if step.n_electronic >= run.most_electronic_steps:
        return NOT_CONVERGED
    if not np.isfinite(energy):
        return NO_ENERGY
    if _lacks_dispersion(run, step):
        return NO_DISPERSION
    if step.cell is None:
        return BAD_STRUCTURE
    numbers = run.numbers()
    if step.sites is None or len(step.sites) != len(numbers):
        return NO_FORCES
    sites = np.array(step.sites, dtype=np.float64)
    if not np.isfinite(sites).all():
        return NO_FORCES
    has_magmoms = step.magmoms is not None and step.is_collinear and len(step.magmoms) == len(numbers)
    return Frame(
        numbers=numbers,
        positions=sites[:, :3].copy(),
        cell=np.array(step.cell, dtype=np.float64),
        pbc=np.ones(3, dtype=bool),
        energy=energy,
        forces=sites[:, 3:].copy(),
        stress=_stress(step.stress),
        magmoms=np.array(step.magmoms, dtype=np.float64) if has_magmoms else None,
        ionic_step=index,
    )


def _lacks_dispersion(run: _Run, step: _Step) -> bool:
    """Whether forces and stress include a dispersion term that the energy lacks, as VASP before 5.4 wrote it."""
    version = tuple(int(number) for number in (run.version or "99").split(".")[:2] if number.isdigit())
    if version >= _DISPERSION_SINCE or not step.dispersion:
        return False
    return abs(step.free_energy - step.electronic_energy) < 0.5 * abs(step.dispersion)


def _stress(values: list[float] | None) -> np.ndarray | None:
    if values is None or not np.isfinite(values).all():
        return None
    xx, yy, zz, xy, yz, zx = values
    return stress_from_vasp(np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]))


def _path_of(runs: list[_Run]) -> tuple[list[Frame], Counter[str]]:
    """Frames of all runs, one after another, and the number of dropped steps by reason.

    Raises:
        MalformedError: the runs are of different materials.
    """
    frames: list[Frame] = []
    dropped: Counter[str] = Counter()
    for calculation, run in enumerate(runs):
        dropped.update(run.dropped)
        for frame in run.frames:
            placed = replace(frame, calculation=calculation)
            if frames and not np.array_equal(frames[0].numbers, placed.numbers):
                raise MalformedError("composition changes along the path", placed.name)
            if frames and frames[-1].calculation != calculation and is_same_geometry(frames[-1], placed):
                frames.pop()
                dropped[RESTART] += 1
            frames.append(placed)
    return frames, dropped


def _rows(lines: Iterator[str], n_rows: int, n_columns: int) -> list[list[float]] | None:
    """First columns of the next lines; None if a line is too short or missing."""
    rows = [_numbers(line, n_columns) for line in (next(lines, "") for _ in range(n_rows))]
    return None if any(row is None for row in rows) else rows


def _numbers(line: str, n: int) -> list[float] | None:
    """First `n` numbers of a line, NaN where Fortran wrote asterisks; None if there are fewer. Wide numbers may
    touch."""
    found = re.sub(r"(?<=\d)-", " -", line).split()[:n]
    return [_number(text) for text in found] if len(found) == n else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _magmoms(lines: Iterator[str], n_ions: int) -> list[float] | None:
    """Last column (the sum over s, p, d and f) of the table that begins here."""
    for _ in range(4):
        if next(lines, "").startswith("---"):
            break
    rows = [next(lines, "").split() for _ in range(n_ions)]
    return None if any(len(row) < 2 for row in rows) else [_number(row[-1]) for row in rows]


def _atomic_number(title: str) -> int:
    """Atomic number from the title of a POTCAR: "PAW_PBE Fe_pv 02Aug2007", "PAW H1.25 07Sep2000" or "H 1/r potential".

    Raises:
        MalformedError: the title names no element.
    """
    for word in title.split()[:2][::-1]:
        symbol = re.match(r"[A-Z][a-z]?(?![A-Za-z])", word.partition("_")[0])
        if symbol and symbol[0] in atomic_numbers:
            return atomic_numbers[symbol[0]]
    raise MalformedError("unknown element", repr(title))
