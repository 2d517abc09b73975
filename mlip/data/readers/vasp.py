"""Reader of VASP runs from vasprun.xml (.gz, .bz2), with pymatgen. `mlip.data.readers.outcar` applies the same rules.

The label is the energy at sigma -> 0, as in ALEXANDRIA and the Materials Project. VASP mislabels the last energy block
of an ionic step: `e_wo_entrp` holds that energy, and `e_0_energy` the entropy term. The label is therefore computed
from the ionic step's free energy and the last electronic step, as e_fr + (e_0 - e_fr of the electronic step); only the
former includes the dispersion energy of IVDW. Forces and stress are VASP's; the stress, in kB with VASP's sign, is
converted here. A step whose electrons did not converge within NELM is dropped and counted. A killed run gives the steps
that it wrote.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlip.data.readers.naming import functional_by_file_name, settled_functional
from mlip.data.readers.pymatgen_json import NO_ENERGY, NO_FORCES
from mlip.data.readers.streams import OnBytes, read_blocks
from mlip.data.readers.vasp_functional import functional_of_run
from mlip.data.records import Frame, MalformedError, Skipped, Trajectory
from mlip.data.schema import end_mark
from mlip.errors import MlipError
from mlip.units import stress_from_vasp

if TYPE_CHECKING:
    from pymatgen.io.vasp import Vasprun

NOT_CONVERGED = "electronic steps not converged"
NO_STEP = "no usable step"

_NAME = re.compile(r"vasprun[^/]*\.xml(\.[^/.]+)?(\.gz|\.bz2)?", re.IGNORECASE)
_ENERGY_DIGIT = 2e-6
"""Tolerance for equal energies, eV; they are written with 8 decimals, or 6."""


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
    """Relaxation (or single step) of a run, as one material.

    Args:
        functional: functional of a run whose INCAR and POTCARs do not state it.
        dimensionality: 1, 2 or 3; None means 3.
        name: name of the file among the sources. The material's id is its folder, or the file's own name.

    Raises:
        MlipError: the file is not a vasprun.xml, or nothing states the functional.
    """
    own_id = material_id(name or path.name)
    run = parse(path)
    if run is None:
        yield Skipped(own_id, NO_STEP, "killed before its first ionic step was done", str(path))
        return
    dropped: Counter[str] = Counter()
    frames, lost_end = [], False
    for step, content in enumerate(run.ionic_steps):
        frame = frame_of_step(content, step, run.parameters.get("NELM", 60))
        if isinstance(frame, str):
            dropped[frame] += 1
        else:
            frames.append(frame)
        lost_end = isinstance(frame, str)
    if on_bytes:
        on_bytes(path.stat().st_size)
    if not frames:
        detail = ", ".join(f"{n} x {reason}" for reason, n in dropped.items()) or "no step at all"
        yield Skipped(own_id, NO_STEP, detail, str(path))
        return
    try:
        settled = settled_functional(functional, stated_functional(run), path, functional_by_file_name)
    except MalformedError as fault:
        yield fault.as_skipped(own_id, str(path))
        return
    yield Trajectory(own_id, frames, settled, dimensionality or 3, end_mark(lost_end), dropped)


def parse(path: Path) -> "Vasprun | None":
    """Run as parsed by pymatgen; None if it ended before its first ionic step was complete.

    Raises:
        MlipError: the file is not a vasprun.xml, or cannot be read.
    """
    from pymatgen.io.vasp import Vasprun

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about malformed XML and functionals, both handled here
            return Vasprun(
                path, parse_dos=False, parse_eigen=False, parse_potcar_file=False, exception_on_bad_xml=False
            )
    except Exception as error:  # pymatgen's parser lets through whatever it stumbles on
        if not _holds_a_step(path):
            return None
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MlipError(f"not a vasprun.xml that pymatgen reads ({why})", where=str(path)) from None


def _holds_a_step(path: Path) -> bool:
    """Whether a file that cannot be parsed holds a complete ionic step, or is no vasprun.xml at all.

    Raises:
        MlipError: the file cannot be read.
    """
    text = b""
    is_run = False
    for block in read_blocks(path):
        text = text[-100:] + block
        is_run = is_run or b"<modeling>" in text
        if b"</calculation>" in text:
            return True
    return not is_run


def material_id(name: str) -> str:
    """Id of a run: its folder, and what the file's name has besides vasprun.xml or OUTCAR."""
    folder, _, file = name.rpartition("/")
    known = [part for part in (folder, run_of(file)) if part]
    return "/".join(known) or ("OUTCAR" if "outcar" in file.lower() else "vasprun")


def run_of(file: str) -> str:
    """Name of a run within its folder, from the name of a vasprun.xml or OUTCAR: "relax1" for OUTCAR.relax1.gz."""
    return re.sub(r"vasprun|outcar|\.?xml|\.gz$|\.bz2$", "", file, flags=re.IGNORECASE).strip("._-")


def stated_functional(run: "Vasprun") -> str | None:
    """Functional from the INCAR's tags, and from VASP's own parameters for tags that the INCAR lacks; None if nothing
    states it."""
    tags = dict(run.parameters) | dict(run.incar)
    version = getattr(run, "vasp_version", None)
    return functional_of_run(tags, list(run.potcar_symbols), version)


def frame_of_step(step: dict[str, Any], index: int, most_electronic_steps: int) -> Frame | str:
    """Frame of an ionic step from pymatgen, or the reason to drop it.

    Args:
        most_electronic_steps: NELM; a step that took as many has not converged.
    """
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
    """Energy at sigma -> 0, eV; NaN if it is not known. The last step of the self-consistent loop need not be the last
    one in the file, because linear response (DFPT) appends its own. It is the last one that has the ionic step's free
    energy, or the ionic step's difference between its energies: with a dispersion correction, which need not be small,
    the free energies differ by that correction."""
    free = step.get("e_fr_energy", np.nan)
    known = [one for one in electronic if {"e_fr_energy", "e_0_energy"} <= one.keys()]
    if not known:
        return np.nan
    named = [step[slot] - free for slot in ("e_0_energy", "e_wo_entrp") if slot in step]

    def belongs(one: dict[str, float]) -> bool:
        extrapolated = one["e_0_energy"] - one["e_fr_energy"]
        differences = (one["e_fr_energy"] - free, *(extrapolated - difference for difference in named))
        return any(abs(difference) < _ENERGY_DIGIT for difference in differences)

    last = next(filter(belongs, reversed(known)), known[-1])
    return float(free + last["e_0_energy"] - last["e_fr_energy"])
