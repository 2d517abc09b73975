"""Chemical formulas: the amounts of the elements, and one name for a composition that many formulas describe.

Formulas are read strictly: ambiguous ones such as CuSO4.5H2O or Fe+3 are not guessed, and every fault has a kind by
which it is counted. Structures have compositions, too.
"""

import re
from collections.abc import Mapping

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mlip.data.records import Frame
from mlip.errors import MlipError

LONGEST_FORMULA = 120
"""Length of the longest formula that is read, characters; the longest in published data sets have about forty."""
LEAST_AMOUNT, LARGEST_AMOUNT = 1e-6, 1e6
"""Smallest and largest amount of an element in a formula."""

_NUMBER = r"\s*(\d+(?:\.\d+)?|\.\d+)?"
_TOKEN = re.compile(rf"([A-Z][a-z]*){_NUMBER}|([)\]]){_NUMBER}|([(\[])|[\s@]+|(.)", re.DOTALL | re.ASCII)
_CLOSES = {")": "(", "]": "["}
_WATER_AFTER_POINT = re.compile(r"\.\s*\d*\s*(?:H2O|\(H2O\))$", re.ASCII)
_SIGNS = "-\N{MINUS SIGN}\N{EN DASH}"
_SYMBOL = re.compile(r"[A-Z][a-z]?")
_DIGITS = 6
"""Significant digits to which the fractions of two compositions are compared."""
_NEGATIVE = re.compile(rf"[{_SIGNS}]\s*[\d.]+\s*[A-Z(\[]")


class FormulaError(MlipError):
    """A text that is not the formula of a neutral compound."""

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None, kind: str = "no formula"):
        self.kind = kind
        """Kind of fault, in the same words for every formula that has it."""
        super().__init__(what, where=where, fix=fix)


def parse_formula(formula: str) -> dict[str, float]:
    """Amounts of the elements, in order of first appearance. Brackets may be nested; '@' and blanks are ignored.

    Raises:
        FormulaError: an unknown element, a charge, a hydrate written with a point, an amount that is zero, negative or
            out of range, unbalanced brackets, an unknown character, or a formula that is too long; the message names
            the
            formula.
    """
    if not isinstance(formula, str) or not formula.strip():
        raise FormulaError(f"{formula!r} is no formula", fix="such as Fe2O3")
    text = formula.strip()
    if len(text) > LONGEST_FORMULA:
        raise _error(text, "formula too long", f"has {len(text)} characters, {LONGEST_FORMULA} are the most")
    if _WATER_AFTER_POINT.search(text):
        raise _error(
            text,
            "hydrate or joined formulas",
            "the point before H2O may mean water of crystallisation or a fraction",
            "water in brackets, such as CuSO4(H2O)5; after a fraction, water first",
        )
    levels: list[tuple[str, dict[str, float]]] = [("", {})]
    for match in _TOKEN.finditer(text):
        symbol, times, closing, bracket_times, opening, unreadable = match.groups()
        if symbol:
            if symbol not in atomic_numbers or symbol == "X":
                raise _error(text, "unknown element", f"there is no element {symbol!r}")
            totals = levels[-1][1]
            totals[symbol] = totals.get(symbol, 0.0) + (_amount(times, text) if times else 1.0)
        elif opening:
            levels.append((opening, {}))
        elif closing:
            opened, units = levels.pop()
            if opened != _CLOSES[closing]:
                raise _error(text, "brackets", "its brackets are not balanced")
            if not units:
                raise _error(text, "brackets", "a pair of brackets is empty")
            factor, totals = _amount(bracket_times, text) if bracket_times else 1.0, levels[-1][1]
            for symbol, amount in units.items():
                totals[symbol] = totals.get(symbol, 0.0) + amount * factor
        elif unreadable:
            raise _unreadable(text, match.start())
    if len(levels) > 1:
        raise _error(text, "brackets", "its brackets are not balanced")
    if not levels[0][1]:
        raise _error(text, "no formula", "names no element")
    return levels[0][1]


def _amount(token: str, text: str) -> float:
    amount = float(token)
    if not LEAST_AMOUNT <= amount <= LARGEST_AMOUNT:
        what = "zero" if amount == 0 else f"not between {LEAST_AMOUNT:g} and {LARGEST_AMOUNT:g}"
        raise _error(text, "amount out of range", f"the amount {token} is {what}", "leave out what is not there")
    return amount


def _unreadable(text: str, position: int) -> FormulaError:
    character = text[position]
    if _NEGATIVE.match(text, position):
        return _error(text, "negative amount", "an amount is negative")
    if character in f"+^{_SIGNS}":
        what = f"{character!r} looks like a charge or an open amount"
        return _error(text, "charge or open amount", what, "a neutral formula, such as Fe2O3")
    if character in ".·•∙⋅*":
        what = f"{character!r} joins two formulas"
        return _error(text, "hydrate or joined formulas", what, "one formula, such as CuSO4(H2O)5")
    if character.isdecimal() and character.isascii():
        what = f"the amount {character!r} follows no element"
        return _error(text, "no formula", what, "a formula that begins with an element")
    what = f"{character!r} cannot be read"
    return _error(text, "no formula", what, "element symbols, amounts and brackets, such as Ca(OH)2")


def _error(text: str, kind: str, what: str, fix: str | None = None) -> FormulaError:
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return FormulaError(what, where=f"formula {shown!r}", fix=fix, kind=kind)


def symbols_in(formula: str) -> set[str]:
    """Element symbols in a formula that has been read before."""
    return set(_SYMBOL.findall(formula))


def composition_frame(amounts: Mapping[str, float]) -> Frame:
    """Frame of a material of which only the composition is known: one site for each element, with NaN positions."""
    numbers = np.array([atomic_numbers[symbol] for symbol in amounts], np.int16)
    nowhere = np.full((len(numbers), 3), np.nan)
    shares = np.array(list(amounts.values()), np.float64)
    return Frame(numbers, nowhere, np.zeros((3, 3)), np.zeros(3, bool), amounts=shares)


def composition_key(frame: Frame) -> str:
    """Name of a frame's composition, such as "Fe0.4 O0.6", which is equal for Fe2O3, Fe4O6 and O3Fe2."""
    amounts = np.ones(len(frame)) if frame.amounts is None else frame.amounts
    totals = np.bincount(frame.numbers, amounts)
    shares = totals / totals.sum()
    return " ".join(f"{chemical_symbols[z]}{shares[z]:.{_DIGITS}g}" for z in np.flatnonzero(totals))
