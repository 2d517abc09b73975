"""ALEXANDRIA's files, material by material: bulk entries and relaxation paths, .json, .json.bz2 or .json.gz.

    entries: {"entries": [ComputedStructureEntry.as_dict(), ...]}
    paths:   {id: [{"kpoints", ..., "steps": [{"structure", "energy", "forces", "stress"}, ...]}, ...]}

Energies are eV per cell, forces eV/A, stress kB with VASP's sign (converted here). What real files hold of
dirt is dealt with so: a step without an energy or with missing, ragged or NaN forces is dropped and counted;
a stress that is missing, ragged or NaN is a missing label; the last geometry of a run that the next run
starts from is dropped, for the restart computes it again with a basis made for that cell; a fault of the
structure (missing key, disorder, unknown element, other composition than the first step's), or no step left,
makes the material `Skipped`.
"""

import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float, Int

from mlip.data.json_stream import Member, decoded, raw_members
from mlip.data.naming import dimensionality_by_name, functional_by_name
from mlip.data.records import Entry, Frame, MalformedError, Skipped, Trajectory
from mlip.data.streams import OnBytes
from mlip.units import stress_from_vasp

NO_ENERGY = "step without energy"
NO_FORCES = "step without usable forces"
RESTART = "geometry repeated at a restart"

_SAME_GEOMETRY = 1e-5
"""A; files give coordinates with 8 decimals."""

_NOT_PROPERTIES = {"mat_id", "nsites", "energy_total"}


def read(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
) -> Iterator[Trajectory | Entry | Skipped]:
    """The materials of a file in its order, streaming; which of the two layouts it has is seen on the way.

    Args:
        functional: of all materials; None = as the file's or its folder's name says.
        dimensionality: 1, 2 or 3 of all materials; None = as id or name say (`mlip.data.naming`).

    Raises:
        MlipError: unreadable or truncated file (with the last complete material), not the layout, or a
            functional that no name tells.
    """
    functional = functional or functional_by_name(path)
    for member in material_members(path, on_bytes):
        yield from_member(member, path, functional, dimensionality)


def material_members(path: Path, on_bytes: OnBytes | None = None) -> Iterator[Member]:
    """The materials of a file, each still as text: finding them is a tenth of the work, and the rest
    (`from_member`) other processes may do.

    Raises:
        MlipError: unreadable or truncated file (with the last complete material).
    """
    return (member for member in raw_members(path, on_bytes) if not member.key.startswith("@"))  # "@module", "@class"


def from_member(
    member: Member, path: Path, functional: str | None, dimensionality: int | None
) -> Trajectory | Entry | Skipped:
    """The material that a member of a file is.

    Raises:
        MlipError: the member is not JSON, or no name tells the functional.
    """
    functional = functional or functional_by_name(path)
    value = decoded(member, path)
    material_id = _entry_id(value) if member.key == "entries" else member.key
    dimensions = dimensionality or dimensionality_by_name(material_id, path)
    try:
        if member.key == "entries":
            return entry_from_dict(value, functional, dimensions)
        return trajectory_from_runs(material_id, value, functional, dimensions)
    except MalformedError as fault:
        return fault.as_skipped(material_id, str(path))


def trajectory_from_runs(material_id: str, runs: Any, functional: str, dimensionality: int) -> Trajectory:
    """A relaxation path from its list of consecutive VASP runs.

    Raises:
        MalformedError: see the head of this file.
    """
    frames: list[Frame] = []
    dropped: Counter[str] = Counter()
    species = _SpeciesBefore()
    for calculation, run in enumerate(_typed(runs, list, "the material")):
        for ionic_step, step in enumerate(_typed(_get(run, "steps", f"run {calculation}"), list, "steps")):
            where = f"run {calculation} step {ionic_step}"
            frame = _frame_from_step(step, calculation, ionic_step, where, species)
            if isinstance(frame, str):
                dropped[frame] += 1
                continue
            if frames and not _is_same_composition(frame, frames[0]):
                raise MalformedError("composition changes along the path", where)
            if frames and frames[-1].calculation != calculation and _is_same_geometry(frames[-1], frame):
                frames.pop()
                dropped[RESTART] += 1
            frames.append(frame)
    if not frames:
        found = ", ".join(f"{count} x {reason}" for reason, count in dropped.items()) or "no step at all"
        raise MalformedError("no usable step", found)
    return Trajectory(material_id, frames, functional, dimensionality, {}, dropped)


def entry_from_dict(entry: Any, functional: str, dimensionality: int) -> Entry:
    """A bulk entry: final structure and scalar properties.

    Raises:
        MalformedError: the structure is at fault, or there is no energy.
    """
    data = _typed(_get(entry, "data", "entry"), dict, "data")
    structure = _get(entry, "structure", "entry")
    geometry = _geometry(structure, "structure", _SpeciesBefore())
    energy = entry.get("energy", data.get("energy_total"))
    if not _is_number(energy):
        raise MalformedError("no energy", f"energy is {energy!r}")
    n = len(geometry["numbers"])
    frame = Frame(
        **geometry,
        energy=float(energy),
        forces=_array(_site_properties(structure, "forces"), (n, 3)),
        stress=_stress(data.get("stress")),
        magmoms=_array(_site_properties(structure, "magmom"), (n,)),
    )
    properties = scalar_properties(data) | {"volume": float(abs(np.linalg.det(frame.cell)))}
    return Entry(_entry_id(entry), frame, functional, dimensionality, properties)


def scalar_properties(data: Mapping[str, Any]) -> dict[str, float | str]:
    """The numbers and texts of an entry's data that describe the material; null and NaN are left out."""
    properties: dict[str, float | str] = {}
    for key, value in data.items():
        if key in _NOT_PROPERTIES:
            continue
        name = key.replace("/", "_")  # "/" separates groups in HDF5
        if isinstance(value, str) and value:
            properties[name] = value
        elif _is_number(value):
            properties[name] = float(value)
    return properties


def _entry_id(entry: Any) -> str:
    data = entry.get("data") if isinstance(entry, dict) else None
    found = data.get("mat_id") if isinstance(data, dict) else None
    return str(found or (entry.get("entry_id") if isinstance(entry, dict) else None) or "entry without an id")


def _frame_from_step(
    step: Any, calculation: int, ionic_step: int, where: str, species: "_SpeciesBefore"
) -> Frame | str:
    """The step as a frame, or the reason to drop it."""
    geometry = _geometry(_get(step, "structure", where), where, species)
    if not _is_number(step.get("energy")):
        return NO_ENERGY
    forces = _array(step.get("forces"), (len(geometry["numbers"]), 3))
    if forces is None:
        return NO_FORCES
    return Frame(
        **geometry,
        energy=float(step["energy"]),
        forces=forces,
        stress=_stress(step.get("stress")),
        magmoms=_array(_site_properties(step["structure"], "magmom"), (len(geometry["numbers"]),)),
        calculation=calculation,
        ionic_step=ionic_step,
    )


class _SpeciesBefore:
    """The species of the structure that was read before: along a path they stay, and to see that is a tenth of the
    work of reading them."""

    def __init__(self) -> None:
        self._species: list[Any] = []
        self._numbers = np.zeros(0, np.int16)

    def numbers(self, sites: list[Any], where: str) -> Int[np.ndarray, " n"]:
        species = [site.get("species") if isinstance(site, dict) else None for site in sites]
        if species != self._species:
            self._numbers = np.array([_atomic_number(site, where) for site in sites], dtype=np.int16)
            self._species = species
        return self._numbers


def _geometry(structure: Any, where: str, species: _SpeciesBefore) -> dict[str, np.ndarray]:
    """numbers, positions, cell and pbc of a pymatgen Structure dict, without pymatgen (100 times slower)."""
    lattice = _get(structure, "lattice", where)
    sites = _typed(_get(structure, "sites", where), list, f"{where}: sites")
    cell = _array(_get(lattice, "matrix", where), (3, 3))
    if cell is None or not abs(_signed_volume(cell)) > 0:
        raise MalformedError("bad cell", f"{where}: matrix is not 3 x 3 numbers that span a volume")
    if not sites:
        raise MalformedError("no sites", where)
    numbers = species.numbers(sites, where)
    if all("abc" in site for site in sites):
        fractions = _array([site["abc"] for site in sites], (len(sites), 3))
        positions = None if fractions is None else fractions @ cell
    else:
        positions = _array([_get(site, "xyz", where) for site in sites], (len(sites), 3))
    if positions is None:
        raise MalformedError("bad coordinates", f"{where}: not three numbers a site")
    return {"numbers": numbers, "positions": positions, "cell": cell, "pbc": _pbc(lattice.get("pbc"), where)}


def _signed_volume(cell: Float[np.ndarray, "3 3"]) -> float:
    """A^3. numpy.linalg.det takes ten times as long for a matrix of this size."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = cell.tolist()
    return ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)


def _pbc(value: Any, where: str) -> np.ndarray:
    """Absent = periodic along all: files of before pymatgen had the key."""
    if value is None:
        return np.ones(3, dtype=bool)
    if not isinstance(value, list) or len(value) != 3 or any(one not in (False, True) for one in value):
        raise MalformedError("bad cell", f"{where}: pbc is not three booleans")
    return np.array(value, dtype=bool)


def _atomic_number(site: Any, where: str) -> int:
    species = _typed(_get(site, "species", where), list, f"{where}: species")
    if len(species) != 1 or _get(species[0], "occu", where) != 1:
        raise MalformedError("disordered site", f"{where}: {species}")
    symbol = _typed(_get(species[0], "element", where), str, f"{where}: element")
    number = atomic_numbers.get(symbol, 0)
    if not number:
        raise MalformedError("unknown element", f"{where}: {symbol!r}")
    return number


def _site_properties(structure: Any, name: str) -> list[Any] | None:
    """One property of all sites; None unless every site has it."""
    properties = [_typed(site.get("properties") or {}, dict, "site properties") for site in structure["sites"]]
    values = [each.get(name) for each in properties]
    return None if any(value is None for value in values) else values


def _stress(kilobar: Any) -> Float[np.ndarray, "6"] | None:
    tensor = _array(kilobar, (3, 3))
    return None if tensor is None else stress_from_vasp(tensor)


def _array(values: Any, shape: tuple[int, ...]) -> Float[np.ndarray, "..."] | None:
    """The values as float64, or None when any is missing, not finite, or rows are ragged."""
    if not isinstance(values, list):
        return None
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # the last: an integer beyond float64
        return None
    if array.shape != shape:
        return None
    is_finite = math.isfinite(array.sum()) or np.isfinite(array).all()  # the sum is faster, but may overflow
    return array if is_finite else None


def _is_number(value: Any) -> bool:
    """A finite one, that float64 can hold."""
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_same_composition(a: Frame, b: Frame) -> bool:
    return a.numbers is b.numbers or np.array_equal(a.numbers, b.numbers)


def _is_same_geometry(a: Frame, b: Frame) -> bool:
    """Same cell, and the same positions but for lattice vectors. Both have the same species in order."""
    if np.abs(a.cell - b.cell).max() > _SAME_GEOMETRY:
        return False
    shifts = np.linalg.solve(b.cell.T, (a.positions - b.positions).T).T
    return bool(np.abs((shifts - np.round(shifts)) @ b.cell).max() < _SAME_GEOMETRY)


def _get(mapping: Any, key: str, where: str) -> Any:
    if not isinstance(mapping, dict):
        raise MalformedError("wrong type", f"{where}: an object with '{key}' expected, {type(mapping).__name__} found")
    if mapping.get(key) is None:
        raise MalformedError("missing key", f"{where}: no '{key}'")
    return mapping[key]


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise MalformedError("wrong type", f"{where}: {kind.__name__} expected, {type(value).__name__} found")
    return value
