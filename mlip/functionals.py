"""Names of functionals, and whether two things that meet were computed with the same one.

Names are compared without regard to case and punctuation ("r2SCAN" is "R2SCAN"); Hubbard corrections and dispersion
are part of a name, so PBE, PBE+U and PBE+D3 are three. A store or a potential of several levels of theory has a name
that joins theirs by " | ".
"""

import re
from collections.abc import Iterable
from typing import Literal

from mlip.errors import MlipError

UNKNOWN = "unknown"
"""Name of a functional that nothing tells."""
_JOIN = " | "
_IGNORED = re.compile(r"[\s_\-]")
_WITH_U = re.compile(r"_U$")
"""How some databases write the run type GGA+U."""

Relation = Literal["same", "unknown", "different"]


def join_functionals(names: Iterable[str]) -> str:
    """One name for several levels of theory; the name itself if there is one."""
    return _JOIN.join(dict.fromkeys(names)) or UNKNOWN


def split_functionals(name: str) -> list[str]:
    """The names that `join_functionals` joined."""
    return name.split(_JOIN)


def canonical_functional(name: str) -> str:
    """The form in which names are compared: "r2-SCAN" and "R2SCAN" have the same."""
    return _IGNORED.sub("", name).casefold()


def functional_of_run_type(run_type: object, functional: str = UNKNOWN) -> str:
    """The functional that pymatgen's run type of a calculation means: GGA is the functional itself (PBE where nothing
    else is known), GGA+U that with Hubbard corrections, and any other run type its own name.

    Args:
        run_type: of a computed entry; anything but a text tells nothing.
        functional: as the file or the store has it.
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
    """Whether two names mean the same functional; "unknown" if either says that it does not know. A joined name is the
    same as each of those that it joins."""
    firsts, seconds = ({canonical_functional(part) for part in split_functionals(name)} for name in (first, second))
    if {UNKNOWN, ""} & (firsts | seconds):
        return "unknown"
    return "same" if firsts <= seconds or seconds <= firsts else "different"


def check_functionals(
    ours: str, theirs: Iterable[str], *, of_ours: str, of_theirs: str, where: str | None = None, allowed: bool = False
) -> str | None:
    """Compare the functional of one thing with those of another that it meets.

    Args:
        ours: the functional of the one, such as a potential's.
        theirs: the functionals of the other, such as those of a store's frames.
        of_ours, of_theirs: nouns for the message, such as "the potential" and "the labels".
        allowed: whether the user has said that they may differ.

    Returns:
        A sentence for the table if they differ (and may) or if one is unknown; None if all are the same.

    Raises:
        MlipError: they differ, and nobody allowed it.
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
