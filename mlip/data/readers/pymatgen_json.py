"""pymatgen's JSON as plain arrays, without pymatgen (100 times slower): structures, and the labels computed for them.

Numbers that are missing, ragged, NaN or infinite become a missing label. A faulty structure (missing key, disorder,
unknown element) raises a `MalformedError`, which readers turn into a `Skipped`.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float, Int

from mlip.data.records import Frame, MalformedError
from mlip.data.structures import DEUTERIUM, HEAVY_HYDROGEN
from mlip.units import stress_from_vasp

NO_ENERGY = "step without energy"
NO_FORCES = "step without usable forces"


def labeled_frame(
    structure: Any,
    energy: Any,
    forces: Any,
    stress: Any,
    *,
    magmoms: Any = None,
    calculation: int,
    ionic_step: int,
    where: str,
    species: "SpeciesBefore",
) -> Frame | str:
    """Frame of a step, or the reason to drop it.

    Args:
        structure: pymatgen's Structure dict.
        energy: eV per cell.
        forces: (n, 3) eV/A.
        stress: (3, 3) kB, VASP's sign.
        magmoms: (n,) mu_B; None: those in the structure's sites.
        where: name of the step, for messages.

    Raises:
        MalformedError: the structure is faulty.
    """
    sound = _sound_arrays(structure, forces, stress, where, species)
    if sound is None:  # something is missing or odd: the parts are checked one by one
        found = geometry(structure, where, species)
        usable, tensor = array(forces, (len(found["numbers"]), 3)), array(stress, (3, 3))
    else:
        found, usable, tensor = sound
    if not is_number(energy):
        return NO_ENERGY
    if usable is None:
        return NO_FORCES
    return Frame(
        **found,
        energy=float(energy),
        forces=usable,
        stress=None if tensor is None else stress_from_vasp(tensor),
        magmoms=array(site_properties(structure, "magmom") if magmoms is None else magmoms, usable.shape[:1]),
        calculation=calculation,
        ionic_step=ionic_step,
    )


def _sound_arrays(
    structure: Any, forces: Any, stress: Any, where: str, species: "SpeciesBefore"
) -> tuple[dict[str, np.ndarray], Float[np.ndarray, "n 3"], Float[np.ndarray, "3 3"]] | None:
    """Geometry, forces and stress (kB) of a step that has them all, as nearly all steps do; else None.

    All are rows of three numbers; converting them as one array takes a third of the time of converting five.
    """
    try:
        lattice, sites = structure["lattice"], structure["sites"]
        n = len(sites)
        if not n or len(lattice["matrix"]) != 3 or len(forces) != n or len(stress) != 3:
            return None
        rows = [*lattice["matrix"], *(site["abc"] for site in sites), *forces, *stress]
        numbers = np.array(rows, dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if numbers.shape != (2 * n + 6, 3) or not math.isfinite(numbers.sum()):
        return None
    cell, fractions = numbers[:3].copy(), numbers[3 : 3 + n]
    if not abs(signed_volume(cell)) > 0:
        return None
    found = {"numbers": species.numbers(sites, where), "positions": fractions @ cell, "cell": cell}
    return found | {"pbc": _pbc(lattice.get("pbc"), where)}, numbers[3 + n : 3 + 2 * n], numbers[3 + 2 * n :]


class SpeciesBefore:
    """Cache of the species of the previous structure. They rarely change along a path, and comparing them takes a tenth
    of the time of reading them."""

    def __init__(self) -> None:
        self._species: list[Any] = []
        self._numbers = np.zeros(0, np.int16)
        self.is_heavy_hydrogen = False
        """Whether the species include deuterium or tritium."""

    def numbers(self, sites: list[Any], where: str) -> Int[np.ndarray, " n"]:
        species = [site.get("species") if isinstance(site, dict) else None for site in sites]
        if species != self._species:
            self._numbers = np.array([_number_at(site, where) for site in sites], dtype=np.int16)
            self.is_heavy_hydrogen = any(one[0].get("element") in HEAVY_HYDROGEN for one in species)
            self._species = species
        return self._numbers


def geometry(structure: Any, where: str, species: SpeciesBefore) -> dict[str, np.ndarray]:
    """Arguments numbers, positions (A), cell (A) and pbc of a `Frame`, from a Structure dict."""
    lattice = get(structure, "lattice", where)
    sites = typed(get(structure, "sites", where), list, f"{where}: sites")
    cell = array(get(lattice, "matrix", where), (3, 3))
    if cell is None or not abs(signed_volume(cell)) > 0:
        raise MalformedError("bad cell", f"{where}: matrix is not 3 x 3 numbers that span a volume")
    if not sites:
        raise MalformedError("no sites", where)
    numbers = species.numbers(sites, where)
    if all("abc" in site for site in sites):
        fractions = array([site["abc"] for site in sites], (len(sites), 3))
        positions = None if fractions is None else fractions @ cell
    else:
        positions = array([get(site, "xyz", where) for site in sites], (len(sites), 3))
    if positions is None:
        raise MalformedError("bad coordinates", f"{where}: not three numbers a site")
    return {"numbers": numbers, "positions": positions, "cell": cell, "pbc": _pbc(lattice.get("pbc"), where)}


def signed_volume(cell: Float[np.ndarray, "3 3"]) -> float:
    """Determinant of the cell, A^3. numpy.linalg.det takes ten times as long for a matrix of this size."""
    return determinant(*cell.tolist())


def determinant(a: Sequence[Any], b: Sequence[Any], c: Sequence[Any]) -> Any:
    """Determinant of the matrix with rows `a`, `b` and `c`. The elements are numbers, or arrays for many matrices at
    once."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = a, b, c
    return ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)


def _pbc(value: Any, where: str) -> np.ndarray:
    """Periodicity of a lattice; True in all directions if absent, as in files older than pymatgen's key."""
    if value is None or value == [True, True, True]:
        return np.ones(3, dtype=bool)
    if not isinstance(value, list) or len(value) != 3 or any(one not in (False, True) for one in value):
        raise MalformedError("bad cell", f"{where}: pbc is not three booleans")
    return np.array(value, dtype=bool)


def _number_at(site: Any, where: str) -> int:
    return atomic_number(get(site, "species", where), where)


def atomic_number(species: Any, where: str) -> int:
    """Atomic number of a site from its list of species; deuterium and tritium count as hydrogen.

    Raises:
        MalformedError: the list is not one known element with full occupancy.
    """
    typed(species, list, f"{where}: species")
    if len(species) != 1 or get(species[0], "occu", where) != 1:
        raise MalformedError("disordered site", f"{where}: {species}")
    symbol = typed(get(species[0], "element", where), str, f"{where}: element")
    number = atomic_numbers.get("H" if symbol in HEAVY_HYDROGEN else symbol, 0)
    if not number:
        raise MalformedError("unknown element", f"{where}: {symbol!r}")
    return number


def heavy_hydrogen_remark(frames: Sequence[str]) -> dict[str, Sequence[str]]:
    """Remark for a trajectory that has deuterium or tritium in the named frames; empty without such frames."""
    return {DEUTERIUM: frames} if frames else {}


def site_properties(structure: Any, name: str) -> list[Any] | None:
    """Values of one property for all sites; None unless every site has it."""
    try:
        return [site["properties"][name] for site in structure["sites"]]
    except (KeyError, TypeError):
        pass
    properties = [typed(site.get("properties") or {}, dict, "site properties") for site in structure["sites"]]
    values = [each.get(name) for each in properties]
    return None if any(value is None for value in values) else values


def stress_of(kilobar: Any) -> Float[np.ndarray, "6"] | None:
    tensor = array(kilobar, (3, 3))
    return None if tensor is None else stress_from_vasp(tensor)


def array(values: Any, shape: tuple[int, ...]) -> Float[np.ndarray, "..."] | None:
    """The values as float64; None if any is missing or not finite, or if the shape is another one."""
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


def is_number(value: Any) -> bool:
    """Whether a value decoded from JSON is a finite number that float64 can hold."""
    return isinstance(value, float | int) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def get(mapping: Any, key: str, where: str) -> Any:
    if not isinstance(mapping, dict):
        raise MalformedError("wrong type", f"{where}: an object with '{key}' expected, {type(mapping).__name__} found")
    if mapping.get(key) is None:
        raise MalformedError("missing key", f"{where}: no '{key}'")
    return mapping[key]


def typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise MalformedError("wrong type", f"{where}: {kind.__name__} expected, {type(value).__name__} found")
    return value
