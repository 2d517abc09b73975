"""Charts of a campaign: distances to the hull compared with chance, growth of the hull, hits and medians."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from mlip.benchmark.intervals import Interval
from mlip.campaign.report.rounds import Campaign, Round
from mlip.campaign.report.statistics import hit_rate, median
from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series

_N_BINS = 40
_DRAWN = (0.5, 98.0)
"""Percentiles that limit the axis of distances; those beyond are counted in the outermost bins."""
_CHANCE = 0
"""Color index of chance: gray."""
_DISTANCE = "distance to the hull, eV/atom"


def distance_charts(campaign: Campaign, *, is_after: bool = False) -> list[Chart]:
    """Figure 1: for each round, the distribution of the chosen candidates' distances beside that of random ones; then
    all rounds in one chart, on the same axes. Rounds without finished calculations are left out."""
    edges = distance_edges(campaign.rounds, is_after=is_after)
    ours, chance = {}, {}
    for one in campaign.rounds:
        if len(proposed := one.distances("proposed", is_after=is_after)):
            ours[one.number], chance[one.number] = proposed, one.distances("random", is_after=is_after)
    panels = {
        f"Round {number}": [
            *_distribution("chance", chance[number], edges, "bars", _CHANCE),
            *_distribution("campaign", proposed, edges, "bars", 1 + k % 5),
        ]
        for k, (number, proposed) in enumerate(ours.items())
    }
    if len(ours) > 1:
        lines = (
            _distribution(f"round {number}", proposed, edges, "line", 1 + k % 5)
            for k, (number, proposed) in enumerate(ours.items())
        )
        every = _distribution("chance", np.concatenate(list(chance.values())), edges, "line", _CHANCE)
        panels["All rounds"] = [*every, *(series for line in lines for series in line)]
    highest = max((float(series.y.max()) for drawn in panels.values() for series in drawn), default=1.0)
    x, y = Axis(_DISTANCE, edges[0], edges[-1]), Axis("% of finished calculations", 0.0, 1.05 * highest)
    guides = {"hull": 0.0} if edges[0] < 0 else {}
    return [Chart(drawn, x, y, caption, guides=guides) for caption, drawn in panels.items()]


def distance_edges(rounds: Sequence[Round], *, is_after: bool = False) -> Float[np.ndarray, " b+1"]:
    """Edges of equal bins for the distances of all rounds and of random candidates; one edge is at 0."""
    every = [one.distances(who, is_after=is_after) for one in rounds for who in ("proposed", "random")]
    together = np.concatenate([np.empty(0), *every])
    low, high = np.percentile(together, _DRAWN) if len(together) else (0.0, 0.5)
    width = max(high - min(low, 0.0), 0.05) / _N_BINS
    return width * np.arange(np.floor(min(low, 0.0) / width), np.ceil(max(high, width) / width) + 1)


def shares(distances: Float[np.ndarray, " k"], edges: Float[np.ndarray, " b+1"]) -> Float[np.ndarray, " b"]:
    """Share of the distances in each bin, %; the outermost bins include all beyond them."""
    return 100 * np.histogram(np.clip(distances, edges[0], edges[-1]), edges)[0] / max(len(distances), 1)


def _distribution(
    name: str, distances: np.ndarray, edges: np.ndarray, mark: Literal["bars", "line"], color: int
) -> list[Series]:
    """The series of a distribution, in a list; empty without distances."""
    middles = (edges[1:] + edges[:-1]) / 2
    drawn = Series(f"{name} ({len(distances):,})", middles, shares(distances, edges), mark, color)
    return [drawn] if len(distances) else []


def growth_charts(campaign: Campaign) -> list[Chart]:
    """Figures 2 and 3: entries, phases on the hull, and phases that joined and left it, against rounds; round 0 is the
    start."""
    start = campaign.start
    before = {} if start is None else {"entries": len(start), "vertices": int(start.is_vertex.sum())}
    panels = {
        "Entries": {"entries": "entries"},
        "Phases on the hull": {"on the hull": "vertices"},
        "Moves of the hull": {"new on the hull": "new_vertices", "fallen": "fallen_vertices"},
    }
    return [
        _against_rounds(
            caption,
            "",
            [_growth(campaign, name, key, before.get(key), 1 + k) for k, (name, key) in enumerate(lines.items())],
        )
        for caption, lines in panels.items()
    ]


def _growth(campaign: Campaign, name: str, key: str, before: int | None, color: int) -> Series:
    x, y = _numbers(campaign), np.array([one.count("hull", key) for one in campaign.rounds])
    if before is not None:
        x, y = np.insert(x, 0, 0.0), np.insert(y, 0, before)
    return Series(name, x, y, "marked line", color)


def success_charts(campaign: Campaign) -> list[Chart]:
    """Hits per thousand calculations, and median distances, of each round beside those of random candidates."""
    hits, medians = [], []
    for name, chosen, color in (("chance", "random", _CHANCE), ("campaign", "proposed", 1)):
        distances = [one.distances(chosen) for one in campaign.rounds]
        rates = [(rate.per_thousand, rate.interval) for rate in map(hit_rate, distances)]
        hits += _with_ends(campaign, name, color, rates)
        medians += _with_ends(campaign, name, color, [median(each) for each in distances])
    return [
        _against_rounds("Hits per thousand calculations", "hits per thousand", hits),
        _against_rounds("Median distance to the hull", "eV/atom", medians),
    ]


def _with_ends(campaign: Campaign, name: str, color: int, values: Sequence[tuple[float, Interval]]) -> list[Series]:
    """A line, and dots at the ends of its intervals; empty if all values are NaN."""
    x, y = _numbers(campaign), np.array([value for value, _ in values])
    if not np.isfinite(y).any():
        return []
    ends = np.array([tuple(interval) for _, interval in values]).T
    line = Series(name, x, y, "marked line", color)
    dots = Series(f"{name}, 95 %", np.tile(x, 2), ends.ravel(), "dots", color)
    return [line, dots]


def _against_rounds(caption: str, label: str, series: list[Series]) -> Chart:
    x = np.concatenate([np.empty(0), *(one.x for one in series)])
    first, last = (x.min(), x.max()) if len(x) else (1.0, 1.0)
    y = Axis.spanning(label, [one.y for one in series])
    return Chart(series, Axis("round", first - 0.5, last + 0.5, is_whole=True), y, caption)


def _numbers(campaign: Campaign) -> np.ndarray:
    return np.array([one.number for one in campaign.rounds], float)
