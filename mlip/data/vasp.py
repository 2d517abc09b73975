"""VASP runs: vasprun.xml (.gz, .bz2), through pymatgen.

The label is the energy at sigma -> 0, as ALEXANDRIA's and the Materials Project's. In the last energy block of an ionic
step VASP's tags lie (the slot `e_wo_entrp` holds that energy, `e_0_energy` the entropy's term), so it is taken from
the ionic step's free energy and the last electronic step: e_fr + (e_0 - e_fr of the electronic step). Forces and stress
are those of VASP, kB with VASP's sign converted here. A step whose electrons did not converge within NELM is dropped
and counted; a run that was killed gives the steps that it wrote.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlip.data.naming import functional_by_file_name, settled_functional
from mlip.data.pymatgen_json import NO_ENERGY, NO_FORCES
from mlip.data.records import Frame, MalformedError, Skipped, Trajectory
from mlip.data.streams import OnBytes
from mlip.errors import MlipError
from mlip.units import stress_from_vasp

if TYPE_CHECKING:
    from pymatgen.io.vasp import Vasprun

NOT_CONVERGED = "electronic steps not converged"

_NAME = re.compile(r"vasprun[^/]*\.xml(\.[^/.]+)?(\.gz|\.bz2)?", re.IGNORECASE)
_OF_THE_POTCAR = ("GGA", "LDA", "unknown")
"""What pymatgen calls runs whose INCAR names no functional."""


def is_vasprun(path: Path) -> bool:
    """Whether a file is read as a VASP run: vasprun.xml, vasprun.relax1.xml.gz, vasprun.xml.relax2.bz2, ..."""
    return _NAME.fullmatch(path.name) is not None


def read(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
    name: str | None = None,
) -> Iterator[Trajectory | Skipped]:
    """The relaxation (or the single step) of a run, as one material.

    Args:
        functional: of a run whose INCAR and POTCARs do not tell it.
        dimensionality: None = 3.
        name: what the file is called among the sources: the material's id is its folder, or its own name.

    Raises:
        MlipError: not a vasprun.xml, or nothing tells the functional.
    """
    run = _parsed(path)
    material_id = _material_id(name or path.name)
    dropped: Counter[str] = Counter()
    frames = []
    for step, content in enumerate(run.ionic_steps):
        frame = _frame(content, step, run.parameters.get("NELM", 60))
        if isinstance(frame, str):
            dropped[frame] += 1
        else:
            frames.append(frame)
    if on_bytes:
        on_bytes(path.stat().st_size)
    if not frames:
        detail = ", ".join(f"{n} x {reason}" for reason, n in dropped.items()) or "no step at all"
        yield Skipped(material_id, "no usable step", detail, str(path))
        return
    try:
        settled = settled_functional(functional, _functional(run), path, functional_by_file_name)
    except MalformedError as fault:
        yield fault.as_skipped(material_id, str(path))
        return
    yield Trajectory(material_id, frames, settled, dimensionality or 3, {}, dropped)


def _parsed(path: Path) -> "Vasprun":
    from pymatgen.io.vasp import Vasprun

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of malformed XML, and of functionals: both are dealt with here
            return Vasprun(
                path, parse_dos=False, parse_eigen=False, parse_potcar_file=False, exception_on_bad_xml=False
            )
    except Exception as error:  # pymatgen's parser lets through whatever it stumbles on
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MlipError(f"not a vasprun.xml that pymatgen reads ({why})", where=str(path)) from None


def _material_id(name: str) -> str:
    folder, _, file = name.rpartition("/")
    number = re.sub(r"^vasprun[._-]?|\.?xml|\.gz$|\.bz2$", "", file, flags=re.IGNORECASE).strip("._-")
    return "/".join(part for part in (folder, number) if part) or "vasprun"


def _functional(run: "Vasprun") -> str | None:
    """What the INCAR says, else the POTCARs; None: neither tells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name, plus, hubbard = run.run_type.partition("+")
    if name not in _OF_THE_POTCAR:
        return run.run_type
    if all(symbol.startswith("PAW_PBE") for symbol in run.potcar_symbols):
        return f"PBE{plus}{hubbard}"
    return None


def _frame(step: dict[str, Any], index: int, most_electronic_steps: int) -> Frame | str:
    """The step as a frame, or the reason to drop it."""
    electronic = step["electronic_steps"]
    if len(electronic) >= most_electronic_steps:
        return NOT_CONVERGED
    energy = _energy(step, electronic)
    if not np.isfinite(energy):
        return NO_ENERGY
    structure = step["structure"]
    forces = np.array(step.get("forces", []), dtype=np.float64)
    if forces.shape != (len(structure), 3) or not np.isfinite(forces).all():
        return NO_FORCES
    stress = np.array(step.get("stress", []), dtype=np.float64)
    return Frame(
        numbers=np.array(structure.atomic_numbers, dtype=np.int16),
        positions=np.array(structure.cart_coords, dtype=np.float64),
        cell=np.array(structure.lattice.matrix, dtype=np.float64),
        pbc=np.ones(3, dtype=bool),
        energy=energy,
        forces=forces,
        stress=stress_from_vasp(stress) if stress.shape == (3, 3) and np.isfinite(stress).all() else None,
        ionic_step=index,
    )


def _energy(step: dict[str, Any], electronic: list[dict[str, float]]) -> float:
    """At sigma -> 0. The last electronic step is the one whose free energy is the ionic step's: linear response
    (DFPT) writes further ones after it."""
    free = step.get("e_fr_energy", np.nan)
    known = [one for one in electronic if {"e_fr_energy", "e_0_energy"} <= one.keys()]
    last = min(known, key=lambda one: abs(one["e_fr_energy"] - free), default={})
    return float(free + last.get("e_0_energy", np.nan) - last.get("e_fr_energy", np.nan))
