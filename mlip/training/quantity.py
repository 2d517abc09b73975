"""Quantities in the loss and errors of a run, in the units of the field."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mlip.training.terms import Sums, weighted_mean

Record = Mapping[str, Any]
"""Record of metrics.jsonl: `loss`, and `loss_NAME` and `NAME_mae` of each quantity; None for non-finite values or
without labels."""

_MISSING = "-"


class Quantity(NamedTuple):
    """Term of the loss, and how its mean absolute error is displayed."""

    name: str
    """Name of the term."""
    word: str
    """Word for one value of the quantity, for display."""
    symbol: str
    """Symbol shown before a number."""
    unit: str = ""
    """Unit of errors in records and displays; empty if unknown."""
    form: str = ".4g"
    """Format of displayed errors."""
    recorded: float = 1.0
    """Factor from the unit of the term to `unit`, e.g. 1000 for meV of a term in eV."""

    @property
    def loss_key(self) -> str:
        return f"loss_{self.name}"

    @property
    def error_key(self) -> str:
        return f"{self.name}_mae"

    @property
    def heading(self) -> str:
        """Heading of a column of errors."""
        return f"{self.symbol} {self.unit}".rstrip()

    def text(self, record: Record) -> str:
        """The error in a record, formatted in `unit`."""
        error = record.get(self.error_key)
        return _MISSING if error is None else format(error, self.form)


def errors_of(
    terms: Mapping[str, Sums], weights: Mapping[str, float], quantities: Sequence[Quantity]
) -> dict[str, float]:
    """Loss, its parts and MAEs from summed terms, in the units of records; NaN without labels."""

    def mae(quantity: Quantity) -> float:
        term = terms[quantity.name]
        return quantity.recorded * float(term.absolute_error / term.count) if term.count else float("nan")

    return {
        "loss": float(weighted_mean(terms, weights)),
        **{f"loss_{name}": float(weighted_mean(terms, {name: weight})) for name, weight in weights.items()},
        **{quantity.error_key: mae(quantity) for quantity in quantities},
    }


def describe(errors: Record, quantities: Sequence[Quantity]) -> str:
    """The errors as one short line."""
    return "  ".join([f"loss {errors['loss']:.4g}", *(told(errors, quantity) for quantity in quantities)])


def told(errors: Record, quantity: Quantity) -> str:
    """Error with symbol and unit, e.g. "E 23.1 meV/atom"."""
    return f"{quantity.symbol} {quantity.text(errors)} {quantity.unit}".rstrip()
