"""Line charts, scatter plots and histograms as inline SVG; `chart.js` makes them interactive.

The picture needs no script. With the script, pointing at a chart shows the values of the nearest point, and a click on
a name in the legend hides or shows its series.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from mlip.report.axis import Axis, tick_text
from mlip.report.page import json_block

_WIDTH = 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 8, 46
_HEIGHT = 300
N_COLORS = 6


@dataclass(frozen=True)
class Series:
    name: str
    x: Float[np.ndarray, " k"]
    """Abscissas; for bars, the centers of bins of equal width."""
    y: Float[np.ndarray, " k"]
    mark: Literal["line", "marked line", "dots", "bars"]
    color: int
    """Index of one of the six colors of page.css, modulo 6. A name has one color on all charts of a page."""
    notes: Sequence[str] | None = None
    """Name of each point, shown when the reader points at it."""

    @property
    def edges(self) -> Float[np.ndarray, " k+1"]:
        """Edges of the bins of a histogram (mark "bars")."""
        half = (self.x[1] - self.x[0]) / 2
        return np.append(self.x - half, self.x[-1] + half)


@dataclass(frozen=True)
class Chart:
    """A figure, to be shown on a page (`to_html`) or saved as an image (`mlip.report.picture`). Points that are NaN, or
    not positive on a logarithmic axis, are left out."""

    series: Sequence[Series]
    x: Axis
    y: Axis
    caption: str
    """Caption as plain text; screen readers read it as the description of the picture."""
    is_parity: bool = False
    """Whether to draw a parity plot: square, with the line y = x."""
    guides: Mapping[str, float] = field(default_factory=dict)
    """Positions of vertical lines on the x axis, by label."""

    def to_html(self) -> str:
        """The figure as HTML with inline SVG."""
        width = _WIDTH - _LEFT - _RIGHT
        frame = _Frame(self.x, self.y, width, width if self.is_parity else _HEIGHT - _TOP - _BOTTOM)
        height = frame.height + _TOP + _BOTTOM
        drawn = "\n".join(_drawn(one, number, frame) for number, one in enumerate(self.series))
        diagonal = f"<path class='guide' d='M0 {frame.height}L{frame.width} 0'/>" if self.is_parity else ""
        names = ", ".join(one.name for one in self.series)
        said = html.escape(f"{self.caption}: {self.y.label} against {self.x.label}")
        return f"""<figure class="chart"><figcaption>{html.escape(self.caption)}</figcaption>
{_legend(self.series)}
<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{said}">
<desc>{html.escape(names)}</desc>
<g transform="translate({_LEFT} {_TOP})">{_grid(frame)}{diagonal}{_guides(self.guides, frame)}
{drawn}
<circle class="pointer" r="5" visibility="hidden"/></g></svg>
<div class="tip" hidden></div>
{json_block(_for_script(self.series, frame))}</figure>"""


def side_by_side(charts: Sequence[Chart]) -> str:
    """HTML of the charts, three to a row where there is room; two or four charts stand two to a row."""
    drawn = "".join(chart.to_html() for chart in charts)
    return f"<div class='charts{' two' if len(charts) in (2, 4) else ''}'>{drawn}</div>"


@dataclass(frozen=True)
class _Frame:
    """Rectangle in which the data are drawn. Its origin is the upper left corner, as in SVG."""

    x: Axis
    y: Axis
    width: int
    height: int

    def places(self, x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, "k 2"]:
        places = np.stack([self.width * self.x.fractions(x), self.height * (1 - self.y.fractions(y))], axis=-1)
        return places[np.isfinite(places).all(axis=-1)]


def _legend(series: Sequence[Series]) -> str:
    buttons = "".join(
        f"<button type='button' aria-pressed='true' data-series='{number}' "
        f"style='--color: var(--series-{one.color % N_COLORS})'>{html.escape(one.name)}</button>"
        for number, one in enumerate(series)
    )
    return f"<div class='legend'>{buttons}</div>"


def _drawn(series: Series, number: int, frame: _Frame) -> str:
    group = f"<g class='series series-{series.color % N_COLORS}' data-series='{number}'>"
    if series.mark == "bars":
        return f"{group}<path class='bars' d='{_bars(series, frame)}'/></g>"
    places = frame.places(series.x, series.y)
    line = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places) if len(places) else ""
    points = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in places)  # a stroke without length is a dot
    paths = {
        "line": f"<path d='{line}'/>",
        "marked line": f"<path d='{line}'/><path class='marks' d='{points}'/>",
        "dots": f"<path class='dots' d='{points}'/>",
    }
    return f"{group}{paths[series.mark]}</g>"


def _bars(series: Series, frame: _Frame) -> str:
    """SVG path of a histogram's outline."""
    if len(series.x) < 2:
        return ""
    edges = frame.width * frame.x.fractions(series.edges)
    tops = frame.height * (1 - frame.y.fractions(series.y))
    steps = "".join(f"L{a:.1f} {top:.1f}H{b:.1f}" for a, b, top in zip(edges[:-1], edges[1:], tops, strict=True))
    return f"M{edges[0]:.1f} {frame.height}{steps}V{frame.height}Z"


def _grid(frame: _Frame) -> str:
    lines, texts = [], []
    for tick, place in _placed_ticks(frame.x):
        across = frame.width * place
        lines.append(f"M{across:.1f} 0V{frame.height}")
        texts.append(f"<text x='{across:.1f}' y='{frame.height + 17}' text-anchor='middle'>{tick}</text>")
    for tick, place in _placed_ticks(frame.y):
        down = frame.height * (1 - place)
        lines.append(f"M0 {down:.1f}H{frame.width}")
        texts.append(f"<text x='-7' y='{down + 4:.1f}' text-anchor='end'>{tick}</text>")
    return (
        f"<path class='grid' d='{''.join(lines)}'/>{''.join(texts)}"
        f"<text class='label' x='{frame.width / 2}' y='{frame.height + 38}' text-anchor='middle'>"
        f"{html.escape(frame.x.label)}</text>"
        f"<text class='label' transform='translate(-49 {frame.height / 2}) rotate(-90)' text-anchor='middle'>"
        f"{html.escape(frame.y.label)}</text>"
    )


def _guides(guides: Mapping[str, float], frame: _Frame) -> str:
    places = frame.width * frame.x.fractions(np.array(list(guides.values())))
    return "".join(
        f"<path class='guide' d='M{place:.1f} 0V{frame.height}'/>"
        f"<text x='{place - 5:.1f}' y='12' text-anchor='end'>{html.escape(name)}</text>"
        for name, place in zip(guides, places, strict=True)
    )


def _placed_ticks(axis: Axis) -> list[tuple[str, float]]:
    ticks = axis.ticks()
    return list(zip(map(tick_text, ticks), axis.fractions(np.array(ticks)), strict=True))


def _for_script(series: Sequence[Series], frame: _Frame) -> dict:
    """Data for the script that finds the point under the cursor and shows its values, to four digits."""

    def axis(axis: Axis, length: int) -> dict:
        return {"label": axis.label, "low": axis.low, "high": axis.high, "log": axis.is_log, "length": length}

    def values(numbers: np.ndarray) -> list[float | None]:
        return [float(f"{number:.4g}") if np.isfinite(number) else None for number in np.asarray(numbers, np.float64)]

    return {
        "x": axis(frame.x, frame.width),
        "y": axis(frame.y, frame.height),
        "series": [
            {"name": one.name, "x": values(one.x), "y": values(one.y), "notes": list(one.notes or ())} for one in series
        ],
    }
