"""Name of a VASP run's functional from its tags; vasprun.xml and OUTCAR give the same name.

    PBE, PBEsol, SCAN, HSE06, ... [+U] [+rVV10] [+vdW-DFT-D3, ...]

A setting whose meaning is not certain is named unknown, with the tag's value, so that the name equals no other:
"PBE+vdW-unknown(IVDW=15)".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

TAGS = (
    *("GGA", "METAGGA", "LIBXC1", "LIBXC2", "LHFCALC", "AEXX", "HFSCREEN"),
    *("LDAU", "LUSE_VDW", "ZAB_VDW", "IVDW", "LVDW"),
)
"""Tags on which the name depends."""

_GGA = {
    "PE": "PBE",
    "PS": "PBEsol",
    "RE": "revPBE",
    "RP": "RPBE",
    "AM": "AM05",
    "91": "PW91",
    "CA": "LDA",
    "PZ": "LDA",
    "VW": "LDA",
    "OR": "optPBE",
    "BO": "optB88",
    "MK": "optB86b",
    "ML": "rPW86",
    "BF": "BEEF",
    "B3": "B3LYP",
    "B5": "B3LYP",
}
_META_GGA = {"RTPSS": "revTPSS", "M06L": "M06-L", "SCANL": "SCAN-L", "R2SCANL": "R2SCAN-L"}
"""Names of meta-GGAs that differ from the value of METAGGA."""

_WITH_NONLOCAL_CORRELATION = {
    "RE": "vdW-DF",
    "OR": "optPBE-vdW",
    "BO": "optB88-vdW",
    "MK": "optB86b-vdW",
    "ML": "vdW-DF2",
    "BF": "BEEF-vdW",
}
"""Names of the functionals of runs with LUSE_VDW, by the value of GGA."""

_DISPERSION = {
    "1": "DFT-D2",
    "10": "DFT-D2",
    "11": "DFT-D3",
    "12": "DFT-D3-BJ",
    "2": "TS",
    "20": "TS",
    "21": "TS-H",
    "202": "MBD",
    "263": "MBD-FI",
    "3": "DFT-ulg",
    "4": "dDsC",
}
"""Dispersion methods by IVDW, for values that mean the same method in all versions of VASP."""
_D4 = "13"
_D4_SINCE = (6, 2)

_NOT_SET = ("", "--", "NONE", "F", "FALSE")
"""Values of a tag that mean that it is not set."""


def functional_of_run(tags: Mapping[str, Any], potcars: Sequence[str], version: str | None = None) -> str | None:
    """Name of a run's functional; None if neither tags nor pseudopotentials state it.

    Args:
        tags: known tags as texts, numbers or bools, by case-insensitive name; those that are not in `TAGS` are ignored.
        potcars: titles of the pseudopotentials ("PAW_PBE Cu 22Jun2005"), which decide where the tags do not.
        version: version of VASP, such as "6.3.0".
    """
    tags = {tag.upper(): value for tag, value in tags.items()}
    name = _exchange_and_correlation(tags, potcars)
    if name is None:
        return None
    if _is_set(tags.get("LDAU")):
        name += "+U"
    if _is_set(tags.get("LUSE_VDW")) and not _nonlocal_functional(tags):
        name += "+rVV10"
    return name + _dispersion(tags, version)


def _exchange_and_correlation(tags: Mapping[str, Any], potcars: Sequence[str]) -> str | None:
    if _is_set(tags.get("LHFCALC")):
        return _hybrid(tags, potcars)
    return _nonlocal_functional(tags) or _semilocal(tags, potcars)


def _semilocal(tags: Mapping[str, Any], potcars: Sequence[str]) -> str | None:
    meta, gga = _name(tags.get("METAGGA")), _name(tags.get("GGA"))
    if "LIBXC" in (meta, gga):
        return f"libxc({','.join(str(tags.get(tag, '?')).strip() for tag in ('LIBXC1', 'LIBXC2'))})"
    if meta:
        return _META_GGA.get(meta, meta)
    if gga:
        return _GGA.get(gga, gga)
    if potcars and all(title.startswith("PAW_PBE") for title in potcars):
        return "PBE"
    return None


def _nonlocal_functional(tags: Mapping[str, Any]) -> str | None:
    """Name of a vdW-DF type functional, in which LUSE_VDW is part of the functional; None for others."""
    if not _is_set(tags.get("LUSE_VDW")) or _name(tags.get("METAGGA")):
        return None
    gga = _name(tags.get("GGA"))
    is_second_kernel = _number(tags.get("ZAB_VDW"), -0.8491) < -1.8
    if gga == "MK" and is_second_kernel:
        return "rev-vdW-DF2"
    return _WITH_NONLOCAL_CORRELATION.get(gga)


def _hybrid(tags: Mapping[str, Any], potcars: Sequence[str]) -> str | None:
    """Name of a hybrid from its fraction of exact exchange and its screening; both are written out if no name fits."""
    base = _semilocal(tags, potcars) or "unknown"
    share, screening = _number(tags.get("AEXX"), 0.25), _number(tags.get("HFSCREEN"), 0.0)
    named = None
    if share == 1.0 and not screening:
        return "HF"
    if base in ("B3LYP", "PBE") and abs(share - 0.2) < 1e-6 and not screening:
        return "B3LYP"
    if share == 0.25 and base in ("PBE", "PBEsol"):
        short = {"PBE": {0.0: "PBE0", 0.3: "HSE03"}, "PBEsol": {0.0: "PBEsol0"}}[base].get(screening)
        named = short or ({"PBE": "HSE06", "PBEsol": "HSEsol"}[base] if 0.2 <= screening <= 0.21 else None)
    return named or f"{base}-hybrid(AEXX={share:g},HFSCREEN={screening:g})"


def _dispersion(tags: Mapping[str, Any], version: str | None) -> str:
    value = _name(tags.get("IVDW"))
    if value == "" and _is_set(tags.get("LVDW")):
        value = "1"  # LVDW is the tag of older versions
    if value in ("", "0"):
        return ""
    if value == _D4 and _version(version) >= _D4_SINCE:
        return "+vdW-DFT-D4"
    return f"+vdW-{_DISPERSION.get(value, f'unknown(IVDW={value})')}"


def _version(text: str | None) -> tuple[int, ...]:
    found = re.match(r"\D*(\d+)\.(\d+)", text or "")
    return (int(found[1]), int(found[2])) if found else (0,)


def _name(value: Any) -> str:
    """Upper-case value of a tag that holds a name or a number; "" if it is not set."""
    text = str("" if value is None or value is False else value).strip().strip("\"'").upper()
    return "" if text in _NOT_SET else text.removesuffix(".0")


def _is_set(value: Any) -> bool:
    """Whether a logical tag is true, by its first letter, as Fortran reads it."""
    return value is True or str(value).strip().lstrip(".").upper().startswith("T")


def _number(value: Any, default: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return default
