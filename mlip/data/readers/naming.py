"""Facts that only names state: ALEXANDRIA's functional, by the file's path, and its dimensionality, by the id.

Its files are `data/pbe_2d/alexandria_2d_000.json.bz2`, `data/pbesol/alexandria_ps_000.json.bz2`,
`data/pbe/2025.07.02/alexandria_00012.json.bz2`, `geo_opt_paths/2025.07.02/pbe_1d/pbe_0000.json.bz2`, ...; its ids are
agm + 9 digits (3D), agm2 + 9 digits (2D), agm1 + 9 digits (1D).

A name counts only where ALEXANDRIA's layout has one: in the file's name, and in the folder of its set if the whole
folder name is one of ALEXANDRIA's.
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
    "mptrj": "PBE",  # and PBE+U where the Materials Project uses it, as in every use of the name PBE for MPtrj
}
"""Functional by a word in the name of a file or set of ALEXANDRIA, or of MPtrj."""

_UNMISTAKABLE = {word: _FUNCTIONALS[word] for word in ("surrogate", "pbesol", "pbe")}
"""Words that mean a functional in any file's name. The others do not: `md_10_ps.xyz` means picoseconds,
`volume_scan.xyz` a scan of volumes."""

_SET_FOLDER = re.compile(r"(surrogate|pbesol|pbe|ps|scan)(?:_([123])d)?|([123])d")
_WITHIN_SET = re.compile(r"\d{4}\.\d{2}\.\d{2}|geo_opt_paths")
"""Folders that ALEXANDRIA has between a set's folder and its files: a release's date, or the folder of paths."""

_ALEXANDRIA_ID = re.compile(r"agm(\d)?\d{9}")
_ID_DIMENSION = re.compile(r"(?:^|[^a-z0-9])(?:fix|sur)?([123])d(?:$|[^a-z0-9])")


CONTRADICTION = "states another functional than --functional"
"""First words of the reason for skipping a material that states another functional than the user gives."""

_REFINEMENT = re.compile(r"\+.*|u|d[234].*|ts|mbd.*")
"""Suffixes of a functional's canonical name that file names do not express: PBE+U, PBE-D3."""


def settled_functional(given: str | None, stated: str | None, path: Path, by_name: Callable[[Path], str]) -> str:
    """Functional of a material: the one that its data state, else the one that the user gives, else the one in a name.

    The user's functional only completes data that state none; it never relabels any.

    Args:
        given: the user's `--functional`; None if there is none.
        stated: functional that the data state; None, empty or 'unknown' if they state none.
        by_name: `functional_by_name` or `functional_by_file_name`, for data that state none.

    Raises:
        MalformedError: the data or a name state another functional than the user gives (`CONTRADICTION`).
        MlipError: nothing states the functional.
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
    """Whether the given functional is the one in a name or refines it: names do not express PBE+U or PBE-D3."""
    rest = canonical_functional(given).removeprefix(canonical_functional(told))
    is_longer = rest != canonical_functional(given)
    return _are_surrogates(given, told) or (is_longer and (not rest or _REFINEMENT.fullmatch(rest) is not None))


def _are_surrogates(given: str, told: str) -> bool:
    return "surrogate" in given.casefold() and "surrogate" in told.casefold()


def _contradiction(given: str, told: str, teller: str) -> MalformedError:
    return MalformedError(f"{CONTRADICTION} {given}: {told}", f"{teller} says {told}")


def functional_by_name(path: Path) -> str:
    """Functional of an ALEXANDRIA file, from its name, else from the folder of its set.

    Raises:
        MlipError: neither states it, or the name states two.
    """
    if found := _told(path, _FUNCTIONALS):
        return found
    folder = _SET_FOLDER.fullmatch(_set_folder(path))
    if folder and folder[1]:
        return _FUNCTIONALS[folder[1]]
    raise _not_told(path, "neither the file nor its folder says")


def functional_by_file_name(path: Path) -> str:
    """Functional in the name of a file of any kind. Its folders are the user's own, and are not considered.

    Raises:
        MlipError: the name states none or two.
    """
    if found := _told(path, _UNMISTAKABLE):
        return found
    raise _not_told(path, "the file's name does not say")


def dimensionality_by_name(material_id: str, path: Path) -> int:
    """Dimensionality 1, 2 or 3 of a material in an ALEXANDRIA file: from its id, else from the file's name or the
    folder of its set, else 3, because ALEXANDRIA marks all 1D and 2D sets."""
    if by_id := dimensionality_by_id(material_id):
        return by_id
    marks = _words(path) & {"1d", "2d", "3d"}
    if len(marks) == 1:
        return int(marks.pop()[0])
    folder = _SET_FOLDER.fullmatch(_set_folder(path))
    return int((folder and (folder[2] or folder[3])) or 3)


def dimensionality_by_id(material_id: str) -> int | None:
    """Dimensionality 1, 2 or 3 from an id: by ALEXANDRIA's digits, or by a mark such as 'sur2d'; None without
    either."""
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
    """Words of the file's name, in lower case."""
    return set(re.split(r"[^a-z0-9]+", path.name.lower()))


def _set_folder(path: Path) -> str:
    """Name of the folder of an ALEXANDRIA file's set, in lower case; the path is not resolved."""
    folders = (folder.name.lower() for folder in path.parents)
    return next((name for name in folders if not _WITHIN_SET.fullmatch(name)), "")
