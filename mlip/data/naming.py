"""What ALEXANDRIA says by names only: the functional by the file's place, the dimensionality by the id.

Its files are `data/pbe_2d/alexandria_2d_000.json.bz2`, `data/pbesol/alexandria_ps_000.json.bz2`,
`geo_opt_paths/2025.07.02/pbe_1d/pbe_0000.json.bz2`, ...; its ids agm + 9 digits (3D), agm2 + 9 digits (2D),
agm1 + 9 digits (1D).
"""

import re
from pathlib import Path

from mlip.errors import MlipError

_FUNCTIONALS = {"surrogate": "surrogate", "pbesol": "PBEsol", "ps": "PBEsol", "scan": "SCAN", "pbe": "PBE"}
"""Words of a name -> functional, the first that is found."""

_ALEXANDRIA_ID = re.compile(r"agm(\d)?\d{9}")
_DIMENSION = re.compile(r"(?:^|[^a-z0-9])(?:fix|sur)?([123])d(?:$|[^a-z0-9])")


def functional_by_name(path: Path) -> str:
    """The functional that the file's name tells, else its folders' names, nearest first.

    Raises:
        MlipError: none tells, or one tells two.
    """
    for name in _names(path):
        words = set(re.split(r"[^a-z0-9]+", name))
        found = {_FUNCTIONALS[word] for word in words & _FUNCTIONALS.keys()}
        if "surrogate" in found:
            return "surrogate"
        if len(found) > 1:
            raise MlipError(
                f"the name says {' and '.join(sorted(found))}", where=str(path), fix="pass --functional NAME"
            )
        if found:
            return found.pop()
    raise MlipError(
        "neither the file nor its folder says which functional the data were computed with",
        where=str(path),
        fix="pass --functional NAME, e.g. PBE, PBEsol or SCAN",
    )


def dimensionality_by_name(material_id: str, path: Path) -> int:
    """1, 2 or 3 by the id, else by the file's or folders' names, else 3: ALEXANDRIA marks all 1D and 2D sets."""
    if match := _ALEXANDRIA_ID.fullmatch(material_id):
        return {"1": 1, "2": 2}.get(match[1], 3)
    for name in (material_id.lower(), *_names(path)):
        if match := _DIMENSION.search(name):
            return int(match[1])
    return 3


def _names(path: Path) -> list[str]:
    """The file's name and its three nearest folders', lower case."""
    resolved = path.resolve()
    return [resolved.name.lower(), *(folder.name.lower() for folder in list(resolved.parents)[:3])]
