"""Units that a file states in its frames (`energy-unit=hartree`, `units="Ry, bohr"`), as factors to mlip's units.

An unknown unit makes a frame unusable: to take its numbers as eV would be a silent error.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ase import units

from mlip.data.records import MalformedError

_QUANTITY = r"(energ(?:y|ies)|forces?|stress(?:es)?|virials?|lengths?|positions?)"  # `unit_cell` is not a unit
_UNIT_KEY = re.compile(rf"{_QUANTITY}[-_ ]?units?|units?[-_ ]?(?:of[-_ ])?{_QUANTITY}", re.IGNORECASE)

_ENERGIES = {
    "ev": 1.0,
    "electronvolt": 1.0,
    "electronvolts": 1.0,
    "mev": 1e-3,
    **dict.fromkeys(("ha", "eh", "hartree", "hartrees", "e_h", "au", "a.u."), units.Hartree),
    **dict.fromkeys(("ry", "rydberg", "rydbergs"), units.Rydberg),
    **dict.fromkeys(("mha", "mhartree"), 1e-3 * units.Hartree),
    "mry": 1e-3 * units.Rydberg,
    "kj/mol": units.kJ / units.mol,
    "kcal/mol": units.kcal / units.mol,
}
_LENGTHS = {
    **dict.fromkeys(("a", "ang", "angs", "angstrom", "angstroms", "å", "ångström"), 1.0),
    **dict.fromkeys(("bohr", "bohrs", "a0", "a_0", "au", "a.u."), units.Bohr),
    "nm": 10.0,
    "pm": 0.01,
}
_PRESSURES = {
    "gpa": units.GPa,
    "pa": 1e-9 * units.GPa,
    **dict.fromkeys(("kbar", "kb"), 0.1 * units.GPa),
    "bar": 1e-4 * units.GPa,
    **dict.fromkeys(("au", "a.u."), units.Hartree / units.Bohr**3),
}
"""Energies, lengths and pressures -> eV, A, eV/A^3, by case-folded name. `kb` is VASP's kilobar; the case distinguishes
mega from milli."""


@dataclass(frozen=True, slots=True)
class Units:
    """Factors that convert a frame's numbers to mlip's units."""

    energy: float = 1.0
    force: float = 1.0
    stress: float = 1.0
    virial: float = 1.0
    length: float = 1.0
    """Factor of positions and cell, A."""
    is_per_atom: bool = False
    """Whether the energy is per atom."""
    stated: frozenset[str] = frozenset()
    """Quantities whose unit the file states."""

    def doubts(self, given: Mapping[str, Any]) -> Iterator[str]:
        """Remarks on labels of a frame that have no unit while its energy is in another unit than eV."""
        if self.energy == 1.0:
            return
        for label, quantity in (("forces", "force"), ("stress", "stress"), ("virial", "virial")):
            if given.get(label) is not None and quantity not in self.stated:
                yield f"{label} without a unit beside an energy in another than eV: taken in ours"


_OURS = Units()


def units_of(info: Mapping[str, Any], where: str) -> Units:
    """Units that a frame states; quantities without a stated unit are in mlip's units.

    Raises:
        MalformedError: a unit is unknown, or a quantity has two units.
    """
    stated = list(_stated(info, where))
    if not stated:
        return _OURS
    factors: dict[str, Any] = {"stated": frozenset(quantity for quantity, _ in stated)}
    for quantity, (key, text) in stated:
        name = text
        if quantity == "energy" and re.search(r"(/|per) ?atom$", text, re.IGNORECASE):
            factors["is_per_atom"] = True
            name = re.sub(r" ?(/|per) ?atom$", "", text, flags=re.IGNORECASE)
        factor = _factor(quantity, name)
        if factor is None:
            raise MalformedError(f"unknown unit: {key}={text}", where)
        if factors.setdefault(quantity, factor) != factor:
            raise MalformedError(f"two units of the {quantity}", f"{where}: {key}={text} is the second")
    return Units(**factors)


def _stated(info: Mapping[str, Any], where: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Pairs (quantity, (key that states its unit, unit))."""
    for key, value in info.items():
        if not isinstance(key, str) or "unit" not in key.casefold():
            continue
        if found := _UNIT_KEY.fullmatch(key):
            yield _quantity(found[1] or found[2]), (key, _text(value))
        elif key.casefold() == "units":
            if isinstance(value, Mapping):
                for name, unit in value.items():
                    if re.fullmatch(_QUANTITY, str(name), re.IGNORECASE):
                        yield _quantity(str(name)), (f"{key}[{name}]", _text(unit))
            else:
                yield from _of_all(key, _text(value), where)


def _of_all(key: str, text: str, where: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Pairs as of `_stated`, for `units=eV` or `units="Hartree, Bohr"`: each unit belongs to the first quantity that it
    can be a unit of."""
    for unit in filter(None, re.split(r"[,;\s]+", text)):
        for quantity in ("energy", "length", "force", "stress"):
            if unit.casefold() not in ("au", "a.u.") and _factor(quantity, unit) is not None:
                yield quantity, (key, unit)
                break
        else:
            raise MalformedError(f"unknown unit: {key}={text}", where)


def _text(value: Any) -> str:
    return str(value).strip()


def _quantity(word: str) -> str:
    word = word.casefold()
    for start, quantity in (("energ", "energy"), ("force", "force"), ("stress", "stress"), ("press", "stress")):
        if word.startswith(start):
            return quantity
    return "virial" if word.startswith("virial") else "length"


def _factor(quantity: str, unit: str) -> float | None:
    """Factor to mlip's unit; None if the unit is unknown."""
    if unit in ("MeV", "MPa", "mPa"):
        return 1e-3 * units.GPa if (quantity, unit) == ("stress", "MPa") else None
    name = re.sub(r"\^|\*\*|\s", "", unit.casefold()).replace("³", "3")
    if quantity in ("energy", "virial"):
        return _ENERGIES.get(name)
    if quantity == "length":
        return _LENGTHS.get(name)
    if quantity == "force":
        return units.Hartree / units.Bohr if name in ("au", "a.u.") else _ratio(name, power="")
    return _PRESSURES.get(name) or _ratio(name, power="3")


def _ratio(name: str, power: str) -> float | None:
    """Factor of `eV/A`, `Ha/bohr` or `kcal/mol/A`, or, with the power 3, of `eV/A3`; None if a unit is unknown."""
    energy, _, length = name.rpartition("/")
    if not energy or not length.endswith(power):
        return None
    per = _LENGTHS.get(length.removesuffix(power))
    scale = _ENERGIES.get(energy)
    return None if per is None or scale is None else scale / per ** (int(power) if power else 1)
