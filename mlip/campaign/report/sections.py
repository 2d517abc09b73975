"""The sections of a campaign's page, as HTML."""

import html
import math
from collections.abc import Callable, Mapping

from mlip.campaign.report.costs import (
    PAPER_CALCULATIONS,
    PAPER_CANDIDATES,
    STEPS,
    candidates_a_second,
    projected,
    step_seconds,
)
from mlip.campaign.report.figures import distance_charts, growth_charts, success_charts
from mlip.campaign.report.rounds import Campaign, Round
from mlip.campaign.report.statistics import NEAR, hit_rate, median, times_chance
from mlip.campaign.report.texts import UNKNOWN, duration, rounded, shown, with_interval
from mlip.report.chart import side_by_side
from mlip.report.periodic_table import periodic_table
from mlip.report.pieces import facts, table, tabs

_INTERVALS = (
    "In brackets: 95 % intervals; of shares Wilson's score, of medians a bootstrap over calculations "
    "(1000 samples, fixed seed)."
)
_AS_FIGURE_1 = (
    "As Figure 1 of the paper. Chance: structures that were drawn at random from the same candidates. "
    "The outermost bins hold all that is beyond them."
)
_HIT = "A hit lies on or below the hull as it stood before the round. Rates are of finished calculations."


def overview(campaign: Campaign) -> str:
    """Overview of the campaign: totals, and the candidates left after each step."""
    proposed = [one.distances("proposed") for one in campaign.rounds]
    hits = sum(hit_rate(each).hits for each in proposed)
    seconds = [one.seconds for one in campaign.rounds if math.isfinite(one.seconds)]
    known = {
        "rounds": f"{len(campaign.rounds)}",
        "candidates": shown(campaign.total("candidates")),
        "calculations finished": shown(campaign.total("outcomes", "finished")),
        "hits": f"{hits:,}" if any(map(len, proposed)) else UNKNOWN,
        "new on the hull": shown(campaign.total("hull", "new_vertices")),
        "entries": shown(_entries(campaign)),
        "energies": campaign.functional or "unknown",
        "time": duration(sum(seconds) if seconds else math.nan),
    }
    missing = "".join(f"<p class='warning'>cannot be read: {html.escape(name)}</p>" for name in campaign.unreadable)
    if not campaign.rounds:
        return f"{missing}{facts(known)}<p class='note'>No round has left a summary yet.</p>"
    return f"{missing}{facts(known)}{_funnel(campaign)}"


def _entries(campaign: Campaign) -> float:
    if campaign.hull is not None:
        return float(len(campaign.hull))
    known = [value for one in campaign.rounds if math.isfinite(value := one.count("hull", "entries"))]
    return known[-1] if known else math.nan


def _funnel(campaign: Campaign) -> str:
    """Table of the number of candidates left after each step, a row for each round."""
    columns: dict[str, Callable[[Round], float]] = {
        "candidates": lambda one: one.count("candidates"),
        "predicted": lambda one: one.count("predicted"),
        "below the cutoff": lambda one: one.count("below_cutoff"),
        "kept": lambda one: one.count("kept"),
        "at random": lambda one: one.count("at_random"),
        "known already": lambda one: one.count("known_already"),
        "pre-relaxed": lambda one: one.count("pre_relaxation", "converged"),
        "duplicates": lambda one: one.count("duplicates"),
        "proposed": lambda one: one.count("proposed"),
        "finished": lambda one: one.count("outcomes", "finished"),
    }
    rows = [[f"{one.number}", *(shown(of(one)) for of in columns.values())] for one in campaign.rounds]
    return table("From candidates to calculations", ["round", *columns], rows, notes=campaign.short_notes)


def distances_section(campaign: Campaign) -> str:
    """Figure 1: distributions of distances to the hull."""
    panels = {}
    for label, is_after in (("to the hull before the round", False), ("to the hull after the round", True)):
        if charts := distance_charts(campaign, is_after=is_after):
            panels[label] = side_by_side(charts)
    if not panels:
        return "<p class='note'>No calculation has finished yet.</p>"
    said = f"<p class='note'>{html.escape(_AS_FIGURE_1)}</p>"
    return tabs("distances", panels) + said + _said(campaign) + _medians(campaign)


def _medians(campaign: Campaign) -> str:
    rows = []
    for one in campaign.rounds:
        cells = [f"{one.number}"]
        for chosen in ("proposed", "random"):
            found = median(one.distances(chosen))
            after = median(one.distances(chosen, is_after=True))
            cells += [with_interval(found.value, found.interval, ".3f"), shown(after.value, ".3f")]
        rows.append(cells)
    columns = ["round", "campaign", "campaign,\nhull after", "chance", "chance,\nhull after"]
    notes = [_INTERVALS, *campaign.short_notes]
    return table("Median distance to the hull, eV/atom", columns, rows, text_columns=(), notes=notes)


def growth_section(campaign: Campaign) -> str:
    """Figures 2 and 3: growth of the hull."""
    rows = [
        [f"{one.number}", *(shown(one.count("hull", key)) for key in _HULL), duration(one.count("seconds", "hull"))]
        for one in campaign.rounds
    ]
    columns = ["round", *_HULL.values(), "time of the update"]
    drawn = side_by_side(growth_charts(campaign)) if campaign.rounds else ""
    notes = ["As Figures 2 and 3 of the paper.", *campaign.short_notes]
    return drawn + table("The hull after each round", columns, rows, text_columns=(), notes=notes)


_HULL = {
    "entries": "entries",
    "vertices": "on the hull",
    "new_vertices": "new on the hull",
    "fallen_vertices": "fallen",
}


def hits_section(campaign: Campaign) -> str:
    """Hits of each round compared with chance."""
    rows = []
    for one in campaign.rounds:
        ours, chance = one.distances("proposed"), one.distances("random")
        cells = [f"{one.number}"]
        for rate in (hit_rate(ours), hit_rate(chance)):
            cells += [f"{rate.hits:,} of {rate.calculations:,}", with_interval(rate.per_thousand, rate.interval, ".1f")]
        near = [hit_rate(each, NEAR) for each in (ours, chance)]
        cells += [times_chance(hit_rate(ours), hit_rate(chance))]
        cells += [with_interval(rate.per_thousand, rate.interval, ".0f") for rate in near]
        rows.append(cells)
    columns = [
        "round",
        "campaign,\nhits",
        "campaign,\nper thousand",
        "chance,\nhits",
        "chance,\nper thousand",
        "times chance",
        f"campaign, within\n{NEAR} eV/atom,\nper thousand",
        f"chance, within\n{NEAR} eV/atom,\nper thousand",
    ]
    return side_by_side(success_charts(campaign)) + table(
        "Hits", columns, rows, text_columns=(), notes=[_HIT, _INTERVALS, *campaign.short_notes]
    )


def elements_section(campaign: Campaign, maps: Mapping[str, Mapping[str, int]]) -> str:
    """Periodic tables of counts, from label -> symbol -> number of compounds."""
    panels = {
        label: periodic_table({symbol: float(n) for symbol, n in counts.items()}, "compounds", ".0f", {})
        for label, counts in maps.items()
        if counts
    }
    if not panels:
        return "<p class='note'>The folder has no hull with compounds on it.</p>"
    return tabs("elements", panels) + _said(campaign)


def failures_section(campaign: Campaign) -> str:
    """Reasons why pre-relaxations and calculations ended, by round."""
    parts = []
    for key, caption in (("pre_relaxation", "Pre-relaxations by their ending"), ("outcomes", "Calculations by theirs")):
        reasons = list(dict.fromkeys(reason for one in campaign.rounds for reason in one.counts(key)))
        if not reasons:
            continue
        rows = [
            [html.escape(reason), *(shown(one.counts(key).get(reason, 0.0)) for one in campaign.rounds)]
            for reason in reasons
        ]
        columns = ["ending", *(f"round {one.number}" for one in campaign.rounds)]
        parts.append(table(caption, columns, rows, text_columns=("ending",), notes=campaign.short_notes))
    return "".join(parts) or "<p class='note'>Nothing has been relaxed or calculated yet.</p>"


def model_section(campaign: Campaign) -> str:
    """The property model of each round."""
    rows = []
    for one in campaign.rounds:
        rows.append(
            [
                f"{one.number}",
                f"<code>{html.escape(one.text('model', 'checksum')[:12]) or UNKNOWN}</code>",
                shown(one.count("model", "n_train")),
                shown(one.count("model", "test_mae"), ".4f"),
                {True: "yes", False: "no", None: UNKNOWN}[one.flag("model", "retrained")],
            ]
        )
    columns = ["round", "checksum", "training materials", "MAE of the test split, eV/atom", "retrained"]
    return table("Property model", columns, rows, text_columns=("checksum",), notes=campaign.short_notes)


def costs_section(campaign: Campaign) -> str:
    """Share of the time of each step, candidates per second, and a projection."""
    seconds = step_seconds(campaign.rounds)
    if not seconds:
        return "<p class='note'>No round tells its times.</p>"
    total = sum(seconds.values())
    rows = [
        [
            html.escape(STEPS.get(step, step)),
            *(duration(one.count("seconds", step)) for one in campaign.rounds),
            duration(spent),
            shown(100 * spent / total if total else math.nan, ".1f"),
        ]
        for step, spent in seconds.items()
    ]
    rows.append(["all", *(duration(one.seconds) for one in campaign.rounds), duration(total), "100.0"])
    columns = ["step", *(f"round {one.number}" for one in campaign.rounds), "together", "share, %"]
    times = table("Time", columns, rows, text_columns=("step",), notes=campaign.short_notes)
    rates = [[f"{one.number}", rounded(candidates_a_second(one))] for one in campaign.rounds]
    ends = table("Candidates a second, end to end", ["round", "candidates/s"], rates, text_columns=())
    return times + ends + _projection(campaign)


def _projection(campaign: Campaign) -> str:
    costs = projected(campaign)
    if not costs:
        return ""
    rows = [
        [cost.step, f"{rounded(cost.rate)} {cost.units}/s", rounded(cost.n), duration(3600 * cost.hours)]
        for cost in costs
    ]
    rows.append(["all", "", "", duration(3600 * sum(cost.hours for cost in costs))])
    notes = [
        "At the measured rates, on the machine that ran the campaign, with as many relaxations for each calculation "
        "as in the campaign. Without training.",
        *campaign.short_notes,
    ]
    columns = ["step", "measured rate", "how many", "time"]
    return table(
        f"{PAPER_CANDIDATES:,} candidates and {PAPER_CALCULATIONS:,} calculations, as the paper has",
        columns,
        rows,
        text_columns=("step",),
        notes=notes,
    )


def _said(campaign: Campaign) -> str:
    return "".join(f"<p class='note'>{html.escape(note)}</p>" for note in campaign.short_notes)
