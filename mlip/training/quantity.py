"""Quantities of a run's loss and errors, in the units of the field."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mlip.training.terms import Sums, weighted_mean

Record = Mapping[str, Any]
"""A record of metrics.jsonl: `loss`, and of each quantity `loss_NAME` and `NAME_mae`. None: not a number, no labels."""

_MISSING = "-"


class Quantity(NamedTuple):
    """A term of the loss, and how its mean absolute error is told."""

    name: str
    """Name of the term."""
    word: str
    """For people: one of the quantity."""
    symbol: str
    """Before a number."""
    unit: str = ""
    """Unit of errors, in records and wherever they are shown; empty where nobody knows it."""
    form: str = ".4g"
    """Format of an error that is shown."""
    recorded: float = 1.0
    """`unit` in the term's: 1000 for meV of a term in eV."""

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
        """The error in a record, a number in `unit`."""
        error = record.get(self.error_key)
        return _MISSING if error is None else format(error, self.form)


def errors_of(
    terms: Mapping[str, Sums], weights: Mapping[str, float], quantities: Sequence[Quantity]
) -> dict[str, float]:
    """Loss, its parts and MAEs of summed terms, in the records' units; NaN without labels."""

    def mae(quantity: Quantity) -> float:
        term = terms[quantity.name]
        return quantity.recorded * float(term.absolute_error / term.count) if term.count else float("nan")

    return {
        "loss": float(weighted_mean(terms, weights)),
        **{f"loss_{name}": float(weighted_mean(terms, {name: weight})) for name, weight in weights.items()},
        **{quantity.error_key: mae(quantity) for quantity in quantities},
    }


def describe(errors: Record, quantities: Sequence[Quantity]) -> str:
    """The errors in one short line."""
    return "  ".join([f"loss {errors['loss']:.4g}", *(told(errors, quantity) for quantity in quantities)])


def told(errors: Record, quantity: Quantity) -> str:
    """E.g. "E 23.1 meV/atom"."""
    return f"{quantity.symbol} {quantity.text(errors)} {quantity.unit}".rstrip()
