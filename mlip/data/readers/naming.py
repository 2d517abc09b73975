"""Facts that data tell by names only: ALEXANDRIA's functional by the file's place, its dimensionality by the id.

Its files are `data/pbe_2d/alexandria_2d_000.json.bz2`, `data/pbesol/alexandria_ps_000.json.bz2`,
`data/pbe/2025.07.02/alexandria_00012.json.bz2`, `geo_opt_paths/2025.07.02/pbe_1d/pbe_0000.json.bz2`, ...; its ids
agm + 9 digits (3D), agm2 + 9 digits (2D), agm1 + 9 digits (1D).

A name is believed where ALEXANDRIA's layout has one, and nowhere else: in the file's name, and in the folder of
its set, if that is named as a whole like one of ALEXANDRIA's.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from mlip.data.records import MalformedError
from mlip.errors import MlipError
from mlip.functionals import UNKNOWN, canonical_functional, relation_of_functionals

_FUNCTIONALS = {
    "surrogate": "surrogate",
    "pbesol": "PBEsol",
    "ps": "PBEsol",
    "scan": "SCAN",
    "pbe": "PBE",
    "mptrj": "PBE",  # and PBE+U where the Materials Project has it, as everywhere that MPtrj is called PBE
}
"""Word of an ALEXANDRIA file's or set's name, or of MPtrj's, -> functional."""

_UNMISTAKABLE = {word: _FUNCTIONALS[word] for word in ("surrogate", "pbesol", "pbe")}
"""Those that mean a functional in any file's name: `md_10_ps.xyz` is of picoseconds, `volume_scan.xyz` of volumes."""

_SET_FOLDER = re.compile(r"(surrogate|pbesol|pbe|ps|scan)(?:_([123])d)?|([123])d")
_WITHIN_SET = re.compile(r"\d{4}\.\d{2}\.\d{2}|geo_opt_paths")
"""Folders that ALEXANDRIA has between a set's folder and its files: a release's date, paths beside entries."""

_ALEXANDRIA_ID = re.compile(r"agm(\d)?\d{9}")
_ID_DIMENSION = re.compile(r"(?:^|[^a-z0-9])(?:fix|sur)?([123])d(?:$|[^a-z0-9])")


CONTRADICTION = "states another functional than --functional"
"""How reasons begin for which a material is refused whose functional is not the one that the user gives."""

_REFINEMENT = re.compile(r"\+.*|u|d[234].*|ts|mbd.*")
"""Endings of a functional's canonical name that a file's name has no word for: PBE+U, PBE-D3."""


def settled_functional(given: str | None, stated: str | None, path: Path, by_name: Callable[[Path], str]) -> str:
    """The functional of a material: what it states itself, else what the user gives, else what a name tells.

    The user's word fills what is unstated, and only that: it never relabels.

    Args:
        given: the user's `--functional`; None: nothing.
        stated: what the data say; None, empty or 'unknown': nothing.
        by_name: `functional_by_name` or `functional_by_file_name`, for data that state nothing.

    Raises:
        MalformedError: what is stated, or a name tells, is not what the user gives (`CONTRADICTION`).
        MlipError: nothing tells it.
    """
    stated = (stated or "").strip()
    if canonical_functional(stated) in ("", UNKNOWN):
        if given is None:
            return _told_by_name(path, by_name)
        if (told := _perhaps_told_by_name(path, by_name)) and not _is_refinement(given, told):
            raise _contradiction(given, told, "the name of the file or of its folder")
        return given
    if (
        given is not None
        and relation_of_functionals(given, stated) == "different"
        and not _are_surrogates(given, stated)
    ):
        raise _contradiction(given, stated, "the data")
    return stated


@lru_cache(maxsize=256)
def _told_by_name(path: Path, by_name: Callable[[Path], str]) -> str:
    return by_name(path)


@lru_cache(maxsize=256)
def _perhaps_told_by_name(path: Path, by_name: Callable[[Path], str]) -> str | None:
    try:
        return by_name(path)
    except MlipError:
        return None


def _is_refinement(given: str, told: str) -> bool:
    """Whether what is given is what a name tells, or says more: a name has no word for PBE+U or PBE-D3."""
    rest = canonical_functional(given).removeprefix(canonical_functional(told))
    is_longer = rest != canonical_functional(given)
    return _are_surrogates(given, told) or (is_longer and (not rest or _REFINEMENT.fullmatch(rest) is not None))


def _are_surrogates(given: str, told: str) -> bool:
    return "surrogate" in given.casefold() and "surrogate" in told.casefold()


def _contradiction(given: str, told: str, teller: str) -> MalformedError:
    return MalformedError(f"{CONTRADICTION} {given}: {told}", f"{teller} says {told}")


def functional_by_name(path: Path) -> str:
    """The functional of an ALEXANDRIA file: what its name tells, else the folder of its set.

    Raises:
        MlipError: none tells, or the name tells two.
    """
    if found := _told(path, _FUNCTIONALS):
        return found
    folder = _SET_FOLDER.fullmatch(_set_folder(path))
    if folder and folder[1]:
        return _FUNCTIONALS[folder[1]]
    raise _not_told(path, "neither the file nor its folder says")


def functional_by_file_name(path: Path) -> str:
    """The functional that the name of a file of any kind tells; its folders are the user's, and tell nothing.

    Raises:
        MlipError: it tells none or two.
    """
    if found := _told(path, _UNMISTAKABLE):
        return found
    raise _not_told(path, "the file's name does not say")


def dimensionality_by_name(material_id: str, path: Path) -> int:
    """1, 2 or 3 of a material in an ALEXANDRIA file: by its id, else by the file's name or the folder of its set,
    else 3: ALEXANDRIA marks all 1D and 2D sets."""
    if by_id := dimensionality_by_id(material_id):
        return by_id
    marks = _words(path) & {"1d", "2d", "3d"}
    if len(marks) == 1:
        return int(marks.pop()[0])
    folder = _SET_FOLDER.fullmatch(_set_folder(path))
    return int((folder and (folder[2] or folder[3])) or 3)


def dimensionality_by_id(material_id: str) -> int | None:
    """1, 2 or 3 as an id tells it: ALEXANDRIA's by its digits, others by a mark such as 'sur2d'. None: not told."""
    if match := _ALEXANDRIA_ID.fullmatch(material_id):
        return {"1": 1, "2": 2}.get(match[1], 3)
    match = _ID_DIMENSION.search(material_id.lower())
    return int(match[1]) if match else None


def _told(path: Path, functionals: dict[str, str]) -> str | None:
    found = {functionals[word] for word in _words(path) & functionals.keys()}
    if "surrogate" in found:
        return "surrogate"
    if len(found) > 1:
        raise MlipError(f"the name says {' and '.join(sorted(found))}", where=str(path), fix="pass --functional NAME")
    return found.pop() if found else None


def _not_told(path: Path, why: str) -> MlipError:
    return MlipError(
        f"{why} which functional the data were computed with",
        where=str(path),
        fix="pass --functional NAME, e.g. PBE, PBEsol or SCAN",
    )


def _words(path: Path) -> set[str]:
    """Words of the file's name, lower case."""
    return set(re.split(r"[^a-z0-9]+", path.name.lower()))


def _set_folder(path: Path) -> str:
    """Name of the folder that an ALEXANDRIA file's set has, lower case; the path is taken as it was given."""
    folders = (folder.name.lower() for folder in path.parents)
    return next((name for name in folders if not _WITHIN_SET.fullmatch(name)), "")
