"""Periodic table with a number for each element, as HTML that needs no script."""

import html
import math
from collections.abc import Mapping

_ROWS = """
H  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  He
Li Be .  .  .  .  .  .  .  .  .  .  B  C  N  O  F  Ne
Na Mg .  .  .  .  .  .  .  .  .  .  Al Si P  S  Cl Ar
K  Ca Sc Ti V  Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y  Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I  Xe
Cs Ba Lu Hf Ta W  Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn
Fr Ra Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
.  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .
.  .  La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb .  .
.  .  Ac Th Pa U  Np Pu Am Cm Bk Cf Es Fm Md No .  .
"""

PLACES = {
    symbol: (row, column)
    for row, line in enumerate(_ROWS.split("\n")[1:-1], start=1)
    for column, symbol in enumerate(line.split(), start=1)
    if symbol != "."
}
"""Row and column (from 1; 18 columns) of every element; lanthanides and actinides have rows of their own, 9 and 10."""


def periodic_table(values: Mapping[str, float], unit: str, form: str, notes: Mapping[str, str]) -> str:
    """Periodic table as HTML, colored by the sign of the values and the square root of their magnitude. The square root
    keeps one outlier from making all other elements pale.

    Args:
        values: value by element symbol; values that are not finite are not shown.
        form: format of a number, e.g. ".1f".
        notes: text by element symbol, shown with the value when the reader points at the element.
    """
    known = {symbol: value for symbol, value in values.items() if math.isfinite(value)}
    if not known:
        return "<p class='note'>no labels</p>"
    levels = _levels(known)
    cells = []
    for symbol, (row, column) in PLACES.items():
        place = f"grid-area: {row} / {column}"
        if symbol not in known:
            cells.append(f"<li style='{place}'><b>{symbol}</b></li>")
            continue
        number, level = format(known[symbol], form), levels[symbol]
        said = html.escape(f"{symbol}: {number} {unit}, {notes.get(symbol, '')}".rstrip(", "))
        hue = "var(--cool)" if level < 0 else "var(--warm)"
        cells.append(
            f"<li class='known' title='{said}' aria-label='{said}' "
            f"style='{place}; --hue: {hue}; --level: {100 * abs(level):.0f}%'><b>{symbol}</b><span>{number}</span></li>"
        )
    return f"<div class='scroll'><ul class='periodic'>{''.join(cells)}</ul></div>{_scale(known, unit, form)}"


def _levels(known: Mapping[str, float]) -> dict[str, float]:
    """Color depth by element symbol, from -1 to 1, with the sign of the value."""
    largest = max(map(abs, known.values())) or 1.0
    return {symbol: math.copysign(math.sqrt(abs(value) / largest), value) for symbol, value in known.items()}


def _scale(known: Mapping[str, float], unit: str, form: str) -> str:
    """Legend of the color scale, as HTML."""
    high = max(map(abs, known.values()))
    low, colors = 0.0, ("surface", "warm")
    if min(known.values()) < 0:
        low, colors = -high, ("cool", "surface", "warm")
    gradient = f"linear-gradient(to right, {', '.join(f'var(--{color})' for color in colors)})"
    return (
        f"<p class='scale'><span>{format(low, form)}</span><i style='background: {gradient}'></i>"
        f"<span>{format(high, form)} {html.escape(unit)} (by the square root)</span></p>"
    )
