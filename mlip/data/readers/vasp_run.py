"""Settings, progress, and last labeled structure of a VASP run, as its vasprun.xml states them.

`mlip.data.readers.vasp` reads the same files for their paths; here the caller judges the run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from mlip.data.readers.streams import read_blocks
from mlip.data.readers.vasp import frame_of_step, is_vasprun, parse, run_of, stated_functional
from mlip.data.records import Frame
from mlip.errors import MlipError

if TYPE_CHECKING:
    from pymatgen.io.vasp import Vasprun

_END = b"</modeling>"
_MOST_ELECTRONIC_STEPS = 60
"""VASP's default of NELM."""


@dataclass(frozen=True, eq=False)
class VaspRun:
    """One vasprun.xml, finished or not."""

    is_complete: bool
    """Whether the file has its end, so that VASP ended by itself."""
    is_damaged: bool
    """Whether the file has its end, but cannot be parsed that far."""
    numbers: Int[np.ndarray, " n"]
    """Atomic numbers, in the run's order."""
    first_cell: Float[np.ndarray, "3 3"]
    """Cell of the first structure, A; rows are lattice vectors."""
    functional: str | None
    """Functional of the run; None if nothing states it."""
    hubbard: Mapping[str, float]
    """U - J in eV by element, for runs with Hubbard corrections; elements without a correction are left out."""
    cutoff: float | None
    """Plane-wave cutoff ENCUT, eV."""
    potcars: tuple[str, ...]
    """Titles of the pseudopotentials in their order, such as "PAW_PBE Fe_pv 06Sep2000"."""
    kpoints: tuple[int, int, int] | None
    """Divisions of the k-point grid; None if the k-points are not a grid."""
    is_spin_polarized: bool
    n_steps: int
    """Number of ionic steps in the file."""
    most_steps: int
    """Largest number of ionic steps, NSW."""
    relaxes_cell: bool
    """Whether the run relaxes the cell (ISIF = 3)."""
    largest_force: float
    """Largest force on an atom after the last step, eV/A; NaN if the file has none."""
    force_criterion: float | None
    """Force at which the relaxation ends, -EDIFFG, eV/A; None if another criterion ends it."""
    last: Frame | str
    """Frame of the last step, or the reason why it cannot be used."""


def find_vasprun(folder: Path) -> Path | None:
    """Path of a folder's vasprun.xml, plain rather than compressed; the last of several runs (vasprun.relax1.xml.gz,
    ...)."""
    found = [path for path in folder.iterdir() if path.is_file() and is_vasprun(path)] if folder.is_dir() else []

    def rank(path: Path) -> tuple[bool, list[int], bool, str]:
        run = run_of(path.name)
        return not run, [int(part) for part in re.findall(r"\d+", run)], path.suffix == ".xml", path.name

    return max(found, key=rank, default=None)


def read_run(path: Path) -> VaspRun | None:
    """Run of a vasprun.xml (.gz, .bz2); None if no ionic step is complete.

    Raises:
        MlipError: the file is not a vasprun.xml, or cannot be read.
    """
    if not _has_content(path):
        return None
    run = parse(path)
    if run is None or not run.ionic_steps:
        return None
    try:
        return _told_by(run, path)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MlipError(f"a damaged vasprun.xml ({why})", where=str(path)) from None


def _told_by(run: "Vasprun", path: Path) -> VaspRun:
    tags = dict(run.parameters) | dict(run.incar)
    n_steps = len(run.ionic_steps)
    forces = np.array(run.ionic_steps[-1].get("forces", []), np.float64).reshape(-1, 3)
    criterion = float(tags.get("EDIFFG") or 0.0)
    first, has_end = run.ionic_steps[0]["structure"], _has_end(path)
    return VaspRun(
        is_complete=has_end,
        is_damaged=has_end and run.final_structure is run.initial_structure,  # pymatgen: equal until the last is parsed
        numbers=np.array(first.atomic_numbers, np.int16),
        first_cell=np.array(first.lattice.matrix, np.float64),
        functional=stated_functional(run),
        hubbard=_hubbard(run, tags),
        cutoff=_number(tags.get("ENCUT", tags.get("ENMAX"))),
        potcars=tuple(run.potcar_symbols),
        kpoints=_grid(run),
        is_spin_polarized=int(tags.get("ISPIN", 1)) == 2,
        n_steps=n_steps,
        most_steps=int(tags.get("NSW") or 0),
        relaxes_cell=int(tags.get("ISIF", 2)) == 3,
        largest_force=float(np.linalg.norm(forces, axis=1).max()) if len(forces) else float("nan"),
        force_criterion=-criterion if criterion < 0 else None,
        last=frame_of_step(run.ionic_steps[-1], n_steps - 1, run.parameters.get("NELM", _MOST_ELECTRONIC_STEPS)),
    )


def _has_content(path: Path) -> bool:
    """Whether a file is not empty.

    Raises:
        MlipError: the file is missing.
    """
    try:
        return path.stat().st_size > 0
    except OSError as error:
        raise MlipError(f"cannot be read ({error.strerror or error})", where=str(path)) from None


def _has_end(path: Path) -> bool:
    tail = b""
    for block in read_blocks(path):
        tail = (tail + block)[-1024:]
    return _END in tail


def _grid(run: "Vasprun") -> tuple[int, int, int] | None:
    modes = run.kpoints.supported_modes
    if run.kpoints.style not in (modes.Gamma, modes.Monkhorst):
        return None
    first, second, third = (int(n) for n in run.kpoints.kpts[0])
    return first, second, third


def _hubbard(run: "Vasprun", tags: dict) -> dict[str, float]:
    """U - J in eV by element, from values in the order of the pseudopotentials. J is subtracted as VASP does for
    LDAUTYPE 2, the type that mlip's inputs have."""
    if not tags.get("LDAU"):
        return {}
    symbols = [title.split()[1].partition("_")[0] for title in run.potcar_symbols]
    values, exchange = (_numbers(tags.get(tag), len(symbols)) for tag in ("LDAUU", "LDAUJ"))
    on = _numbers(tags.get("LDAUL"), len(symbols), default=2.0)
    pairs = zip(symbols, values, exchange, on, strict=True)
    return {symbol: u - j for symbol, u, j, shell in pairs if shell >= 0 and u - j}


def _numbers(values, n: int, default: float = 0.0) -> list[float]:
    values = [values] if isinstance(values, int | float) else list(values or [])
    return [float(value) for value in values[:n]] + [default] * (n - len(values))


def _number(value) -> float | None:
    return None if value is None else float(value)
