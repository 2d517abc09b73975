"""Lists of responses as returned to users, and functions common to their results."""

import math
from collections.abc import Iterable
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex, TypeVar, overload

import numpy as np
from ase import Atoms

from mlip.relaxation.result import rows_or_none

if TYPE_CHECKING:
    from pandas import DataFrame


_MOST_ROWS = 50
"""Largest number of rows shown in a notebook, from both ends."""


class Response(Protocol):
    """Attributes common to results of every kind."""

    @property
    def atoms(self) -> Atoms: ...

    def as_row(self) -> dict[str, Any]: ...


Result = TypeVar("Result", bound=Response)


class Responses(list[Result]):
    """Results in the order of the input; notebooks show them as a table."""

    @classmethod
    def in_order(cls, found: Iterable[tuple[int, Result]]) -> "Responses[Result]":
        """Results sorted by their indices."""
        return cls(result for _, result in sorted(found, key=itemgetter(0)))

    def to_dataframe(self) -> "DataFrame":
        """Table with a row for each structure, indexed by the order of the input. Unknown values are NaN."""
        from pandas import DataFrame

        return DataFrame([{"formula": formula(result.atoms), **result.as_row()} for result in self])

    @overload
    def __getitem__(self, place: SupportsIndex) -> Result: ...

    @overload
    def __getitem__(self, place: slice) -> "Responses[Result]": ...

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return Responses(found) if isinstance(place, slice) else found

    def _repr_html_(self) -> str:
        if not self:
            return "no results"
        table = self.to_dataframe()
        counts = ", ".join(f"{n} {reason}" for reason, n in table.reason.value_counts().items())
        shown = table.to_html(max_rows=_MOST_ROWS, float_format="{:.4g}".format, na_rep="", border=0)
        return f"<p>{len(self)} results: {counts}</p>{shown}"


def formula(atoms: Atoms) -> str:
    """Empirical formula; "?" for invalid atomic numbers."""
    try:
        return atoms.symbols.get_chemical_formula(mode="metal", empirical=True)
    except (IndexError, KeyError):
        return "?"


def structure_record(atoms: Atoms) -> dict[str, Any]:
    """JSON-serializable record of a structure."""
    return {
        "numbers": atoms.numbers.tolist(),
        "cell": rows_or_none(atoms.cell.array),
        "positions": rows_or_none(atoms.positions),
        "pbc": atoms.pbc.tolist(),
    }


def for_json(value: Any) -> Any:
    """Convert arrays to lists, and non-finite numbers to None, because JSON has no NaN."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: for_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
