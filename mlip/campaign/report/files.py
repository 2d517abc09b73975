"""The figures of a campaign as PNG files, and their data as CSV."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mlip.campaign.report.costs import STEPS, candidates_a_second, projected, step_seconds
from mlip.campaign.report.figures import (
    distance_charts,
    distance_edges,
    growth_charts,
    shares,
    success_charts,
)
from mlip.campaign.report.rounds import Campaign, Round
from mlip.campaign.report.statistics import hit_rate, median
from mlip.files.whole_file import whole_file
from mlip.report.picture import save_charts
from mlip.report.store_figures import plot_elements


def write_figures(campaign: Campaign, folder: Path, maps: Mapping[str, Mapping[str, int]]) -> None:
    """Write figures and tables to an existing folder. A column in each table names the functional of the energies.

    Args:
        maps: file name -> symbol -> number of compounds.
    """
    title = f"energies: {campaign.functional or 'unknown'}"
    for name, charts in (
        ("distances", distance_charts(campaign)),
        ("distances_after", distance_charts(campaign, is_after=True)),
        ("growth", growth_charts(campaign) if campaign.rounds else []),
        ("hits", [chart for chart in success_charts(campaign) if chart.series]),
    ):
        if charts:
            save_charts(charts, folder / f"{name}.png", title)
    for name, counts in maps.items():
        if counts:
            plot_elements(counts, folder / f"{name}.png", f"{name.replace('_', ' ')}; {title}", "compounds")
        _write(folder / f"{name}.csv", campaign, ("element", "compounds"), counts.items())
    for is_after in (False, True):
        _write_distances(folder / f"distances{'_after' * is_after}.csv", campaign, is_after)
    _write_rounds(folder / "rounds.csv", campaign)
    _write_costs(folder, campaign)


def _write_distances(path: Path, campaign: Campaign, is_after: bool) -> None:
    edges = distance_edges(campaign.rounds, is_after=is_after)
    rows = []
    for one in campaign.rounds:
        for chosen in ("proposed", "random"):
            distances = one.distances(chosen, is_after=is_after)
            if len(distances):
                bins = zip(edges[:-1], edges[1:], shares(distances, edges), strict=True)
                rows += [(one.number, chosen, f"{a:.6f}", f"{b:.6f}", f"{share:.4f}") for a, b, share in bins]
    _write(path, campaign, ("round", "chosen", "from_ev_per_atom", "to_ev_per_atom", "percent"), rows)


def _write_rounds(path: Path, campaign: Campaign) -> None:
    rows = [_numbers_of(one) for one in campaign.rounds]
    texts = [[f"{value:.9g}" if math.isfinite(value) else "" for value in row.values()] for row in rows]
    _write(path, campaign, list(_numbers_of(Round(0, {}))), texts)


def _numbers_of(one: Round) -> dict[str, float]:
    """All numbers of a round, by column name."""
    steps = ("candidates", "predicted", "below_cutoff", "kept", "known_already", "duplicates", "proposed")
    numbers = {"round": float(one.number)} | {step: one.count(step) for step in steps}
    numbers["finished"] = one.count("outcomes", "finished")
    numbers |= {key: one.count("hull", key) for key in ("entries", "vertices", "new_vertices", "fallen_vertices")}
    numbers |= {key: one.count("model", key) for key in ("test_mae", "n_train")}
    numbers["candidates_per_second"] = candidates_a_second(one)
    for chosen in ("proposed", "random"):
        rate, middle = hit_rate(one.distances(chosen)), median(one.distances(chosen))
        for name, value, interval in (
            ("hits_per_thousand", rate.per_thousand, rate.interval),
            ("median_distance", middle.value, middle.interval),
        ):
            ends = {f"{chosen}_{name}": value, f"{chosen}_{name}_low": interval.low}
            numbers |= ends | {f"{chosen}_{name}_high": interval.high}
    return numbers


def _write_costs(folder: Path, campaign: Campaign) -> None:
    seconds = step_seconds(campaign.rounds)
    total = sum(seconds.values())
    rows = [
        (STEPS.get(step, step), f"{t:.6g}", f"{100 * t / total if total else 0:.4g}") for step, t in seconds.items()
    ]
    _write(folder / "time.csv", campaign, ("step", "seconds", "share"), rows)
    costs = [(c.step, c.units, f"{c.rate:.6g}", f"{c.n:.6g}", f"{c.hours:.6g}") for c in projected(campaign)]
    _write(folder / "projection.csv", campaign, ("step", "units", "units_per_second", "number", "hours"), costs)


def _write(path: Path, campaign: Campaign, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow((*header, "energies"))
        table.writerows((*row, campaign.functional or "unknown") for row in rows)
