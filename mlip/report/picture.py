"""Charts as image files, drawn with matplotlib; `mlip.report.chart` draws the same charts as SVG."""

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

from mlip.report.chart import N_COLORS, Chart, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = 3.4
"""Width and height of one panel, inches."""


def save_charts(charts: Sequence[Chart], path: str | PathLike, title: str = "") -> None:
    """Write the charts side by side as an image, in the format of the file name's suffix."""
    picture_of(charts, title).savefig(path, dpi=150)


def picture_of(charts: Sequence[Chart], title: str = "") -> "Figure":
    """Matplotlib figure with the charts side by side, one panel each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(_SIZE * len(charts), 4.5), _SIZE), layout="constrained")
    figure.suptitle(title)
    for axes, chart in zip(figure.subplots(1, max(len(charts), 1), squeeze=False)[0], charts, strict=False):
        _draw(axes, chart)
    return figure


def _draw(axes: "Axes", chart: Chart) -> None:
    for series in chart.series:
        _draw_series(axes, series)
    if chart.is_parity:
        axes.axline((chart.x.low, chart.x.low), slope=1, color="black", linewidth=0.7)
        axes.set_aspect("equal")
    for name, place in chart.guides.items():
        axes.axvline(place, color="0.5", linewidth=0.7, label=name)
    for one, set_scale, set_limits in (
        (chart.x, axes.set_xscale, axes.set_xlim),
        (chart.y, axes.set_yscale, axes.set_ylim),
    ):
        set_scale("log" if one.is_log else "linear")
        set_limits(one.low, one.high)
    if chart.x.is_whole:
        axes.set_xticks(chart.x.ticks())
    axes.set(xlabel=chart.x.label, ylabel=chart.y.label)
    axes.set_title(chart.caption, fontsize="small")
    if chart.series:
        axes.legend(fontsize="x-small", frameon=False)


def _draw_series(axes: "Axes", series: Series) -> None:
    color = f"C{series.color % N_COLORS}"
    if series.mark == "bars":
        axes.stairs(series.y, series.edges, label=series.name, color=color)
    elif series.mark == "dots":
        axes.plot(series.x, series.y, ".", label=series.name, color=color, markersize=2, alpha=0.4, rasterized=True)
    else:
        marker = {"marker": "o", "markersize": 3} if series.mark == "marked line" else {}
        axes.plot(series.x, series.y, label=series.name, color=color, **marker)
