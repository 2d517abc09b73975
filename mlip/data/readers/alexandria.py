"""Reader of ALEXANDRIA's files, one material at a time: entries and relaxation paths (.json, .json.bz2 or .json.gz).

    entries: {"entries": [ComputedStructureEntry.as_dict(), ...]}
    paths:   {id: [{"kpoints", ..., "steps": [{"structure", "energy", "forces", "stress"}, ...]}, ...]}

(MPtrj's files have an object of frames in place of the list of runs: `mlip.data.readers.mptrj`.)

Energies are eV per cell, forces eV/A, stresses kB with VASP's sign (converted here). Faults of real files are
treated as follows. A step without an energy, or with missing, ragged or NaN forces, is dropped and counted. A
stress that is missing, ragged or NaN is a missing label. If a run starts from the last geometry of the run before
it, that last step is dropped, because the restart computes it again with a basis set made for its cell. A faulty
structure (missing key, disorder, unknown element, other composition than the first step's) makes the material
`Skipped`, and so does a path with no step left.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlip.data.readers.json_stream import Member, decoded, raw_members
from mlip.data.readers.mptrj import trajectory_from_frames
from mlip.data.readers.naming import dimensionality_by_name, functional_by_name, settled_functional
from mlip.data.readers.pymatgen_json import (
    SpeciesBefore,
    array,
    geometry,
    get,
    heavy_hydrogen_remark,
    is_number,
    labeled_frame,
    site_properties,
    stress_of,
    typed,
)
from mlip.data.readers.restarts import RESTART, is_same_geometry
from mlip.data.readers.sound_paths import sound_path
from mlip.data.readers.streams import OnBytes
from mlip.data.records import Entry, Frame, MalformedError, Skipped, Trajectory
from mlip.data.schema import CORRECTION, end_mark
from mlip.functionals import functional_of_run_type

_NAN_STRESS = b'"stress": [[NaN, NaN, NaN], [NaN, NaN, NaN], [NaN, NaN, NaN]]'
_NULL_STRESS = b'"stress": null'.ljust(len(_NAN_STRESS))
"""A stress of NaN, as many entries have it, and its replacement in valid JSON, which the fast decoder accepts. Inside a
JSON string, the quotes would be escaped, so only stresses match."""

_NOT_PROPERTIES = {"mat_id", "nsites", "energy_total"}

ENDINGS = (".json", ".json.bz2", ".json.gz")


def is_alexandria(path: Path) -> bool:
    """Whether a file may be one of ALEXANDRIA's or MPtrj's, by its ending."""
    return path.name.lower().endswith(ENDINGS)


def read(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
) -> Iterator[Trajectory | Entry | Skipped]:
    """Materials of a file in its order, streamed; the layout (entries or paths) is detected from the content.

    Args:
        functional: functional of materials that state none; None: as the name of the file or of its folder states.
        dimensionality: 1, 2 or 3 for all materials; None: by id or file name (`mlip.data.readers.naming`).

    Raises:
        MlipError: the file is unreadable or truncated (the last complete material is named) or has another layout, or
            no name states the functional.
    """
    settled_functional(None, functional, path, functional_by_name)  # fails before anything is read if nothing states it
    for member in material_members(path, on_bytes):
        yield from_member(member, path, functional, dimensionality)


def material_members(path: Path, on_bytes: OnBytes | None = None) -> Iterator[Member]:
    """Materials of a file, each as undecoded text. Finding them is a tenth of the work; other processes may do the rest
    (`from_member`).

    Raises:
        MlipError: the file is unreadable or truncated (the last complete material is named).
    """
    return (member for member in raw_members(path, on_bytes) if not member.key.startswith("@"))  # "@module", "@class"


def from_member(
    member: Member, path: Path, functional: str | None, dimensionality: int | None
) -> Trajectory | Entry | Skipped:
    """Material from a member of a file.

    Raises:
        NotJsonError: the member is not JSON; later members may be.
        MlipError: no name states the functional.
    """
    is_entry, given = member.key == "entries", functional
    try:
        functional = settled_functional(given, None, path, functional_by_name)
    except MalformedError as fault:
        return fault.as_skipped(_entry_id(decoded(member, path)) if is_entry else member.key, str(path))
    if is_entry:
        member = member._replace(text=member.text.replace(_NAN_STRESS, _NULL_STRESS))
    else:
        dimensions = dimensionality or dimensionality_by_name(member.key, path)
        if (sound := sound_path(member.text, member.key, functional, dimensions)) is not None:
            return sound
    value = decoded(member, path)
    material_id = _entry_id(value) if is_entry else member.key
    dimensions = dimensionality or dimensionality_by_name(material_id, path)
    try:
        if is_entry:
            if stated := _stated_functional(value):
                functional = settled_functional(given, stated, path, functional_by_name)
            return entry_from_dict(value, functional, dimensions)
        if isinstance(value, dict):
            return trajectory_from_frames(material_id, value, functional, dimensions)
        return trajectory_from_runs(material_id, value, functional, dimensions)
    except MalformedError as fault:
        return fault.as_skipped(material_id, str(path))


def trajectory_from_runs(material_id: str, runs: Any, functional: str, dimensionality: int) -> Trajectory:
    """Relaxation path from its list of consecutive VASP runs.

    Raises:
        MalformedError: the material must be skipped; the module's docstring lists the faults.
    """
    frames: list[Frame] = []
    dropped: Counter[str] = Counter()
    species = SpeciesBefore()
    heavy: list[str] = []
    lost_end = False
    for calculation, run in enumerate(typed(runs, list, "the material")):
        for ionic_step, step in enumerate(typed(get(run, "steps", f"run {calculation}"), list, "steps")):
            where = f"run {calculation} step {ionic_step}"
            frame = labeled_frame(
                get(step, "structure", where),
                step.get("energy"),
                step.get("forces"),
                step.get("stress"),
                calculation=calculation,
                ionic_step=ionic_step,
                where=where,
                species=species,
            )
            lost_end = isinstance(frame, str)
            if lost_end:
                dropped[frame] += 1
                continue
            if frames and not _is_same_composition(frame, frames[0]):
                raise MalformedError("composition changes along the path", where)
            if frames and frames[-1].calculation != calculation and is_same_geometry(frames[-1], frame):
                frames.pop()
                dropped[RESTART] += 1
            frames.append(frame)
            if species.is_heavy_hydrogen:
                heavy.append(frame.name)
    if not frames:
        found = ", ".join(f"{count} x {reason}" for reason, count in dropped.items()) or "no step at all"
        raise MalformedError("no usable step", found)
    heavy_remark = heavy_hydrogen_remark(heavy)
    return Trajectory(material_id, frames, functional, dimensionality, end_mark(lost_end), dropped, heavy_remark)


def entry_from_dict(entry: Any, functional: str, dimensionality: int) -> Entry:
    """Bulk entry: final structure and scalar properties.

    Raises:
        MalformedError: the structure is faulty, or there is no energy.
    """
    data = typed(get(entry, "data", "entry"), dict, "data")
    structure = get(entry, "structure", "entry")
    species = SpeciesBefore()
    found = geometry(structure, "structure", species)
    energy = entry.get("energy", data.get("energy_total"))
    if not is_number(energy):
        raise MalformedError("no energy", f"energy is {energy!r}")
    n = len(found["numbers"])
    frame = Frame(
        **found,
        energy=float(energy),
        forces=array(site_properties(structure, "forces"), (n, 3)),
        stress=stress_of(data.get("stress")),
        magmoms=array(site_properties(structure, "magmom"), (n,)),
    )
    properties = scalar_properties(data) | _level_of_theory(entry)
    properties["volume"] = float(abs(np.linalg.det(frame.cell)))
    heavy = heavy_hydrogen_remark([frame.name] if species.is_heavy_hydrogen else [])
    return Entry(_entry_id(entry), frame, functional, dimensionality, properties, heavy)


def _stated_functional(entry: Any) -> str | None:
    """Functional that an entry's run type names, such as R2SCAN. None for GGA and GGA+U, for which the file's
    functional holds: ALEXANDRIA's PBE includes Hubbard corrections for the compounds that need them."""
    parameters = entry.get("parameters") if isinstance(entry, dict) else None
    run_type = parameters.get("run_type") if isinstance(parameters, dict) else None
    is_silent = not isinstance(run_type, str) or run_type.strip().upper().startswith("GGA")
    return None if is_silent else functional_of_run_type(run_type)


def _level_of_theory(entry: Mapping[str, Any]) -> dict[str, float | str]:
    """Run type of an entry, such as GGA+U, and the correction of its energy, eV per cell, where it states them. The
    frame's energy does not include the correction."""
    found: dict[str, float | str] = {}
    parameters = entry.get("parameters")
    if isinstance(parameters, dict) and isinstance(run_type := parameters.get("run_type"), str) and run_type:
        found["run_type"] = run_type
    if is_number(correction := entry.get("correction")):
        found[CORRECTION] = float(correction)
    return found


def scalar_properties(data: Mapping[str, Any]) -> dict[str, float | str]:
    """Numbers and texts of an entry's data that describe the material; null and NaN are left out."""
    properties: dict[str, float | str] = {}
    for key, value in data.items():
        if key in _NOT_PROPERTIES:
            continue
        name = key.replace("/", "_")  # "/" separates groups in HDF5
        if isinstance(value, str) and value:
            properties[name] = value
        elif is_number(value):
            properties[name] = float(value)
    return properties


def _entry_id(entry: Any) -> str:
    data = entry.get("data") if isinstance(entry, dict) else None
    found = data.get("mat_id") if isinstance(data, dict) else None
    return str(found or (entry.get("entry_id") if isinstance(entry, dict) else None) or "entry without an id")


def _is_same_composition(a: Frame, b: Frame) -> bool:
    return a.numbers is b.numbers or np.array_equal(a.numbers, b.numbers)
