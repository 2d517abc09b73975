"""Names of exchange-correlation functionals, and whether two data sets or models share one.

Names are compared without regard to case and punctuation ("r2SCAN" is "R2SCAN"). Hubbard corrections and dispersion are
part of a name, so PBE, PBE+U and PBE+D3 differ. A store or a potential with several levels of theory has their names
joined by " | ".
"""

import re
from collections.abc import Iterable
from typing import Literal

from mlip.errors import MlipError

UNKNOWN = "unknown"
"""Name of a functional that is not known."""
_JOIN = " | "
_IGNORED = re.compile(r"[\s_\-]")
_WITH_U = re.compile(r"_U$")
"""Spelling of the run type GGA+U in some databases."""

Relation = Literal["same", "unknown", "different"]


def join_functionals(names: Iterable[str]) -> str:
    """One name for several levels of theory, joined by " | "; a single name is returned unchanged."""
    return _JOIN.join(dict.fromkeys(names)) or UNKNOWN


def split_functionals(name: str) -> list[str]:
    """Names joined by `join_functionals`."""
    return name.split(_JOIN)


def canonical_functional(name: str) -> str:
    """Normalized form in which names are compared, the same for "r2-SCAN" and "R2SCAN"."""
    return _IGNORED.sub("", name).casefold()


def functional_of_run_type(run_type: object, functional: str = UNKNOWN) -> str:
    """Functional for pymatgen's run type of a calculation. GGA is the functional itself (PBE if unknown), GGA+U the
    same with Hubbard corrections; any other run type is its own name.

    Args:
        run_type: run type of a computed entry; ignored unless it is a non-empty string.
        functional: functional given by the file or the store.
    """
    if not isinstance(run_type, str) or not run_type.strip():
        return functional
    run_type = _WITH_U.sub("+U", run_type.strip())
    name, plus, hubbard = run_type.partition("+")
    if name.upper() != "GGA":
        return run_type
    known = "PBE" if canonical_functional(functional) in (UNKNOWN, "") else functional
    return known if not plus or known.upper().endswith("+U") else f"{known}+{hubbard}"


def relation_of_functionals(first: str, second: str) -> Relation:
    """Whether two names mean the same functional; "unknown" if either is unknown. A joined name equals each of its
    parts."""
    firsts, seconds = ({canonical_functional(part) for part in split_functionals(name)} for name in (first, second))
    if {UNKNOWN, ""} & (firsts | seconds):
        return "unknown"
    return "same" if firsts <= seconds or seconds <= firsts else "different"


def check_functionals(
    ours: str, theirs: Iterable[str], *, of_ours: str, of_theirs: str, where: str | None = None, allowed: bool = False
) -> str | None:
    """Compare the functional of one object with those of another with which it is used.

    Args:
        ours: functional of the first object, such as a potential.
        theirs: functionals of the second, such as the frames of a store.
        of_ours, of_theirs: nouns for the message, such as "the potential" and "the labels".
        allowed: whether the user has allowed them to differ.

    Returns:
        A sentence for the table if they differ (and may) or if one is unknown; None if all are the same.

    Raises:
        MlipError: they differ without the user's permission.
    """
    others = sorted(set(theirs))
    relations = {name: relation_of_functionals(ours, name) for name in others}
    different = [name for name in others if relations[name] == "different"]
    if different:
        told = f"{of_ours} is of {ours}, {of_theirs} of {', '.join(different)}"
        if not allowed:
            raise MlipError(
                f"functionals differ: {told}", where=where, fix="--allow-functional-mismatch compares them all the same"
            )
        return f"functionals differ, as allowed: {told}"
    if unknown := [name for name in others if relations[name] == "unknown"]:
        return f"functionals not compared: {of_ours} is of {ours}, {of_theirs} of {', '.join(unknown)}"
    return None
