"""Labels of ASE's Atoms in mlip's units: energy, forces, stress and magnetic moments, in the various forms of files.

An energy that is given but is not one finite number makes the frame unusable (`BadLabelError`), and so do infinite
labels and unknown units. Any other unusable label is lost alone: the frame stays, and `ReadLabels.lost` says why.

Stresses have ASE's sign and order, as (6,), (3, 3) or either of them flattened or with an axis of length 1. A virial
is the usual `virial = -stress * volume` (QUIP, MACE, NequIP), in eV: stress = -virial / volume.
"""

import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from jaxtyping import Float

from mlip.data.readers.label_units import units_of
from mlip.data.records import MalformedError
from mlip.errors import MlipError
from mlip.units import voigt_from_tensor

LABELS = ("energy", "forces", "stress", "virial", "magmoms")
"""Labels to which a key of the file may be mapped."""

NO_ENERGY = "no energy"
NON_COLLINEAR = "non-collinear magnetic moments are not stored"

_ASYMMETRY = 0.01
"""Largest asymmetry, as a fraction of the largest component, that rounding or loose convergence explains."""
_LEAST_ASYMMETRY = 1e-5
"""Asymmetry in eV/A^3 below which it is noise, whatever the stress."""

_FORTRAN_EXPONENT = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")
_OF_ENERGY = re.compile(r"energ|^e_?(?:0|tot|dft|pot|ref)?$", re.IGNORECASE)
_OF_OTHER_ENERGIES = re.compile(
    r"hull|form|above|gap|fermi|atom|corr|cohes|decomp|separation|zero|zpe|unit|cutoff|weight|kinetic|free",
    re.IGNORECASE,
)
_LIKE = {
    "forces": re.compile(r"forces?$", re.IGNORECASE),
    "stress": re.compile(r"stress(?:es)?$|virials?$", re.IGNORECASE),
}

Keys = Mapping[str, str]
"""Key under which a file has a label, by label."""


class BadLabelError(MalformedError):
    """The structure is valid, but a label computed for it is not."""


class ReadLabels(NamedTuple):
    """Labels of a structure; None for a label that is absent or unusable."""

    energy: float
    """Energy of the cell, eV; NaN if there is none."""
    forces: Float[np.ndarray, "n 3"] | None
    stress: Float[np.ndarray, "6"] | None
    magmoms: Float[np.ndarray, " n"] | None
    length: float
    """Length in A of the unit in which the file gives positions and cell."""
    lost: tuple[str, ...]
    """Reasons why given labels are not used, and doubts about labels that are used."""


def parsed_keys(text: str | None) -> dict[str, str]:
    """Mapping label -> key of the file, from a text such as `energy=REF_energy,forces=dft_forces` (option `--keys`).

    Raises:
        MlipError: the text does not have this form, or names an unknown label.
    """
    keys: dict[str, str] = {}
    for pair in filter(None, (text or "").split(",")):
        label, _, key = map(str.strip, pair.partition("="))
        if not key:
            raise MlipError(
                f"'{pair}' is not LABEL=KEY", where="--keys", fix="e.g. energy=REF_energy,forces=dft_forces"
            )
        if label not in LABELS:
            nearest = get_close_matches(label, LABELS, n=1)
            did = f"did you mean {nearest[0]}? " if nearest else ""
            raise MlipError(f"unknown label '{label}'", where="--keys", fix=f"{did}one of {', '.join(LABELS)}")
        keys[label] = key
    return keys


def with_fortran_exponents(text: str) -> str:
    """Text in which Fortran's -6.1D+00 is written -6.1e+00."""
    return _FORTRAN_EXPONENT.sub("e", text)


def labels_of(atoms: Atoms, keys: Keys, where: str) -> ReadLabels:
    """Labels of a structure.

    Args:
        keys: keys of labels that the file has under other names than ASE's; such a label is looked up there only.
        where: name of the frame, for messages.

    Raises:
        BadLabelError: the energy is given but is not one finite number, there is only a free energy, or a label is
            infinite.
        MalformedError: a unit is unknown.
    """
    given = _given(atoms, keys)
    n = len(atoms)
    units = units_of(atoms.info, where)
    lost: list[str] = list(units.doubts(given))
    if "energy" not in keys and given.get("energy") is None and given.get("free_energy") is not None:
        raise BadLabelError("free energy without energy", where)
    energy = _energy(given.get("energy"), where) * units.energy * (n if units.is_per_atom else 1)
    forces = _label(given.get("forces"), (n, 3), "forces", where, lost)
    stress = _stress(given.get("stress"), "stress", where, lost)
    if stress is not None:
        stress = stress * units.stress
    elif given.get("virial") is not None:
        virial = _stress(given["virial"], "virial", where, lost)
        stress = _stress_of_virial(virial, abs(atoms.cell.volume) * units.length**3, units.virial, lost)
    return ReadLabels(
        energy=energy,
        forces=None if forces is None else forces * units.force,
        stress=stress,
        magmoms=_magnetic_moments(given.get("magmoms"), n, where, lost),
        length=units.length,
        lost=tuple(dict.fromkeys(lost)),
    )


def _given(atoms: Atoms, keys: Keys) -> dict[str, Any]:
    results = {} if atoms.calc is None else atoms.calc.results
    given = {label: results.get(label) for label in (*LABELS, "free_energy") if label != "virial"}
    places = (atoms.info, atoms.arrays, results)
    return given | {label: next((p[key] for p in places if key in p), None) for label, key in keys.items()}


def why_without_energy(atoms: Atoms, keys: Keys) -> str | None:
    """Reason why a structure's energy is not found, with the keys that it has; None if it seems to have no energy at
    all."""
    is_likely = any(_OF_ENERGY.search(key) and not _OF_OTHER_ENERGIES.search(key) for key in atoms.info)
    if "energy" not in keys and not is_likely:
        return None
    under = f" under '{keys['energy']}'" if "energy" in keys else ""
    return f"{NO_ENERGY}{under}; keys seen: {_seen(atoms)}; --keys energy=KEY says which is it"


def unread_labels(atoms: Atoms, keys: Keys) -> list[str]:
    """Remarks on forces and stresses that are absent under their key while similar keys exist."""
    given = _given(atoms, keys)
    results = {} if atoms.calc is None else atoms.calc.results
    remarks = []
    for label, pattern in _LIKE.items():
        if given.get(label) is not None or (label == "stress" and given.get("virial") is not None):
            continue
        mapped = keys.get(label) or (keys.get("virial") if label == "stress" else None)
        others = [key for key in (*atoms.info, *atoms.arrays, *results) if pattern.search(key) and key != mapped]
        if mapped:
            remarks.append(f"no '{mapped}' for --keys {label}")
        elif others:
            remarks.append(f"{label} not read, perhaps under {', '.join(others)} (--keys)")
    return remarks


def _seen(atoms: Atoms) -> str:
    arrays = [key for key in atoms.arrays if key not in ("numbers", "positions")]
    results = [] if atoms.calc is None else [key for key, value in atoms.calc.results.items() if value is not None]
    return "; ".join(
        f"{place}: {', '.join(map(str, keys))}"
        for place, keys in (("info", list(atoms.info)), ("arrays", arrays), ("results", results))
        if keys
    )


def numbers_of(value: Any) -> Float[np.ndarray, "..."] | None:
    """The value as float64, including texts with Fortran's exponents; None if it is not numeric. Booleans are not."""
    if isinstance(value, str):
        value = value.strip("[](){}").replace(",", " ").split()
    try:
        array = np.asarray(value)
        if array.dtype.kind == "U":
            return np.array([with_fortran_exponents(text) for text in array.flat], np.float64).reshape(array.shape)
        return array.astype(np.float64) if array.dtype.kind in "iufO" else None
    except (TypeError, ValueError, OverflowError):
        return None


def _energy(value: Any, where: str) -> float:
    """Energy as one finite number, NaN if none is given; a BadLabelError otherwise."""
    if value is None:
        return float("nan")
    if isinstance(value, bool | np.bool_):  # how readers represent a key without a value
        raise BadLabelError("energy without a value", where)
    numbers = numbers_of(value)
    if numbers is None or not numbers.size:
        raise BadLabelError("energy is not a number", f"{where}: {value!r}")
    if numbers.size > 1:
        raise BadLabelError("several energies of one frame", f"{where}: {value!r}")
    energy = float(numbers.ravel()[0])
    if not math.isfinite(energy):
        raise BadLabelError(NO_ENERGY, f"{where}: energy is {energy}")
    return energy


def _label(
    value: Any, shape: tuple[int, ...], name: str, where: str, lost: list[str]
) -> Float[np.ndarray, "..."] | None:
    """Label of the given shape, NaN where numbers are missing; None if it is absent or unusable, with a reason in
    `lost`."""
    if value is None:
        return None
    array = numbers_of(value)
    if array is None:
        lost.append(f"{name} without numbers")
        return None
    if array.shape != shape:
        lost.append(f"{name} of a wrong shape")
        return None
    if np.isinf(array).any():
        raise BadLabelError(f"infinite {name}", where)
    return array


def _stress(value: Any, name: str, where: str, lost: list[str]) -> Float[np.ndarray, "6"] | None:
    """Voigt components, in ASE's order, of a stress or a virial; None if it is absent or unusable."""
    array = None if value is None else numbers_of(value)
    if array is not None and array.size in (6, 9):
        array = array.squeeze()
        array = array.reshape(3, 3) if array.shape == (9,) else array
    shape = (6,) if array is None or array.ndim != 2 else (3, 3)
    tensor = _label(value if array is None else array, shape, name, where, lost)
    if tensor is None or shape == (6,):
        return tensor
    if np.abs(tensor - tensor.T).max() > max(_LEAST_ASYMMETRY, _ASYMMETRY * np.abs(tensor).max()):
        lost.append(f"{name} is not symmetric")
        return None
    return voigt_from_tensor(tensor)


def _stress_of_virial(
    virial: Float[np.ndarray, "6"] | None, volume: float, unit: float, lost: list[str]
) -> Float[np.ndarray, "6"] | None:
    if virial is None:
        return None
    if not volume > 0:
        lost.append("virial of a cell without a volume")
        return None
    return -virial * unit / volume


def _magnetic_moments(value: Any, n: int, where: str, lost: list[str]) -> Float[np.ndarray, " n"] | None:
    array = None if value is None else numbers_of(value)
    if array is not None and array.shape == (n, 3) and n != 0:
        lost.append(NON_COLLINEAR)
        return None
    if array is not None and array.shape == (n, 1):
        value = array[:, 0]
    return _label(value, (n,), "magmoms", where, lost)
