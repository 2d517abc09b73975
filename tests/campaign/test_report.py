"""The page of a campaign: its numbers, its intervals, and that it takes what there is."""

import csv
import json
import math
import re

import numpy as np
import pytest

from mlip.campaign.report import write_campaign_report
from mlip.campaign.report.costs import candidates_a_second, projected, step_seconds
from mlip.campaign.report.figures import distance_edges, growth_charts, shares
from mlip.campaign.report.rounds import Round, read_campaign
from mlip.campaign.report.statistics import hit_rate, median, times_chance
from mlip.campaign.report.texts import duration
from mlip.errors import MlipError
from mlip.hull.convex_hull import Phases
from mlip.hull.growing import GrowingHull
from tests.browser import OpenPage

NOTE = "energies of finished calculations are a surrogate's, not DFT's"


def summary(number: int) -> dict:
    """A round that is better than the one before it, with counts that agree with one another."""
    rng = np.random.default_rng(number)
    proposed = rng.gamma(2.0, 0.08 / number, 880) - 0.02 * number
    random = rng.gamma(4.0, 0.1, 600)
    hits = int((proposed <= 0).sum())
    return {
        "round": number,
        "candidates": 1_200_000,
        "predicted": 1_200_000,
        "below_cutoff": 5000,
        "kept": 1000,
        "known_already": 17,
        "pre_relaxation": {"converged": 950, "max_steps": 47, "exploded": 3},
        "duplicates": 50,
        "proposed": 900,
        "outcomes": {"finished": 880, "electronic steps not converged": 20},
        "distances": {"proposed": proposed.tolist(), "random": random.tolist()},
        "distances_after": {"proposed": np.maximum(proposed, 0).tolist(), "random": (random + 0.02).tolist()},
        "hull": {
            "entries": 17_277 + 1480 * number,
            "vertices": 466 + 9 * number,
            "new_vertices": hits // 2,
            "fallen_vertices": hits // 2 - 9,
            "largest_system_seconds": None,
        },
        "model": {"checksum": "0123456789abcdef", "test_mae": 0.1 / number, "n_train": 900 * number, "retrained": True},
        "seconds": {"candidates": 10.0, "screen": 90.0, "relax": 100.0, "dft": 600.0, "hull": 1.0, "train": 300.0},
        "functional": "surrogate:nequix-oam-1",
        "note": NOTE,
    }


def campaign_of(folder, summaries, hull=True):
    for one in summaries:
        place = folder / "rounds" / f"{one['round']:03d}"
        place.mkdir(parents=True)
        (place / "summary.json").write_text(json.dumps(one))
    if hull:
        compositions = [{"Na": 1}, {"Cl": 1}, {"Na": 1, "Cl": 1}, {"Na": 1, "Cl": 3}]
        phases = Phases.of(compositions, np.array([0.0, 0.0, -2.0, -1.1]))
        ids = ["na", "cl", "agm1", "mine-r001-000007"]
        grown = GrowingHull.begin(ids[:3], phases.take(np.arange(3)), are_formation_energies=True)
        grown.save(folder / "start-hull.npz")
        grown.add(ids[3:], phases.take(np.array([3])))
        grown.save(folder / "hull.npz")
    return folder


def every_null(value):
    if isinstance(value, dict):
        return {key: every_null(one) for key, one in value.items()}
    return None


def text_of(page) -> str:
    return re.sub(r"<[^>]+>", " ", page.read_text())


def table_of(path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_three_rounds_are_told_with_their_numbers(tmp_path):
    page = write_campaign_report(campaign_of(tmp_path, map(summary, (1, 2, 3))))
    assert page == tmp_path / "report.html"
    text = text_of(page)
    assert "3,600,000" in text  # candidates
    assert "2,640" in text  # finished
    for heading in ("Distances to the hull", "Hits", "Growth", "Elements", "Property model", "Endings", "Costs"):
        assert heading in text
    assert "electronic steps not converged" in text
    assert "19,000,000,000 candidates" in text
    assert "put there by the campaign" in text
    rows = table_of(tmp_path / "figures" / "rounds.csv")
    assert [int(row["entries"]) for row in rows] == [18_757, 20_237, 21_717]
    for number, row in enumerate(rows, start=1):
        proposed = np.array(summary(number)["distances"]["proposed"])
        assert float(row["proposed_hits_per_thousand"]) == pytest.approx(1000 * (proposed <= 0).mean())
        low, high = float(row["proposed_median_distance_low"]), float(row["proposed_median_distance_high"])
        assert low < float(row["proposed_median_distance"]) < high
        assert row["energies"] == "surrogate:nequix-oam-1"
    medians = [float(row["proposed_median_distance"]) for row in rows]
    assert medians == sorted(medians, reverse=True)


def test_wherever_numbers_are_the_surrogate_is_named(tmp_path):
    page = write_campaign_report(campaign_of(tmp_path, map(summary, (1, 2))))
    html = page.read_text()
    for section in re.findall(r"<section id=.*?</section>", html, re.S):
        assert "a surrogate&#x27;s, not DFT&#x27;s" in section
    assert html.index("class='warning'") < html.index("<table")
    for path in (tmp_path / "figures").glob("*.csv"):
        assert all(row["energies"] == "surrogate:nequix-oam-1" for row in table_of(path)), path


def test_a_surrogate_without_a_note_is_named_all_the_same(tmp_path):
    page = write_campaign_report(campaign_of(tmp_path, [summary(1) | {"note": None}]))
    assert "those of a surrogate, nequix-oam-1, not DFT" in text_of(page)


def test_a_long_note_is_whole_on_top_and_short_at_each_table(tmp_path):
    html = write_campaign_report(campaign_of(tmp_path, [summary(1) | {"note": f"{NOTE}; and so on"}])).read_text()
    assert html.count("and so on") == 1
    assert html.count("not DFT&#x27;s.") > 8


def test_energies_of_dft_have_no_warning(tmp_path):
    html = write_campaign_report(campaign_of(tmp_path, [summary(1) | {"note": None, "functional": "PBE"}])).read_text()
    assert "class='warning'" not in html
    assert "surrogate" not in html


@pytest.mark.parametrize(
    "summaries",
    [
        [],
        [summary(1)],
        [every_null(summary(1)) | {"round": 1}],
        [summary(1), every_null(summary(2)) | {"round": 2}, summary(3)],
        [{"round": 1}],
        [summary(1) | dict.fromkeys(("seconds", "model", "hull", "distances", "distances_after", "outcomes"))],
        [summary(1) | {"distances": {"proposed": [0.1], "random": []}, "distances_after": None}],
        [summary(1) | {"distances": {"proposed": [None, 0.1, 0.1], "random": None}}],
        [summary(1) | {"seconds": dict.fromkeys(summary(1)["seconds"], 0.0), "candidates": 0}],
    ],
)
def test_the_page_takes_what_there_is(tmp_path, summaries):
    page = write_campaign_report(campaign_of(tmp_path, summaries, hull=False))
    text = text_of(page)
    assert "Campaign" in text
    assert "nan" not in re.sub(r"<style>.*?</style>|<script.*?</script>", "", page.read_text(), flags=re.S).lower()
    assert table_of(tmp_path / "figures" / "rounds.csv") is not None
    assert page.read_text().count("<section") == page.read_text().count("</section>")


def test_no_round_says_so(tmp_path):
    assert "No round has left a summary yet" in text_of(write_campaign_report(campaign_of(tmp_path, [])))
    assert (tmp_path / "figures" / "elements_on_hull.png").exists()
    with pytest.raises(MlipError, match="no such folder"):
        write_campaign_report(tmp_path / "absent")


def test_a_damaged_summary_is_named_and_the_others_are_told(tmp_path):
    campaign_of(tmp_path, map(summary, (1, 2)))
    (tmp_path / "rounds" / "002" / "summary.json").write_text('{"round": 2, "candi')
    (tmp_path / "hull.npz").write_bytes(b"PK")
    text = text_of(write_campaign_report(tmp_path))
    assert "cannot be read: rounds/002/summary.json" in text
    assert "cannot be read: hull.npz" in text
    assert len(table_of(tmp_path / "figures" / "rounds.csv")) == 1


def test_a_second_report_replaces_the_first(tmp_path):
    campaign_of(tmp_path, [summary(1)])
    first = write_campaign_report(tmp_path).read_text()
    campaign_of(tmp_path, [summary(2)], hull=False)
    second = write_campaign_report(tmp_path).read_text()
    assert "Round 2" in second
    assert "Round 2" not in first
    assert not list(tmp_path.rglob(".*"))


def test_elements_on_the_hull_are_counted_apart_from_what_the_campaign_put_there(tmp_path):
    write_campaign_report(campaign_of(tmp_path, [summary(1)]))
    counts = {
        name: {row["element"]: int(row["compounds"]) for row in table_of(tmp_path / "figures" / f"{name}.csv")}
        for name in ("elements_on_hull", "elements_added")
    }
    assert counts == {"elements_on_hull": {"Na": 2, "Cl": 2}, "elements_added": {"Na": 1, "Cl": 1}}


def test_growth_begins_with_the_start(tmp_path):
    campaign = read_campaign(campaign_of(tmp_path, map(summary, (1, 2))))
    entries, vertices, moves = growth_charts(campaign)
    assert entries.series[0].x.tolist() == [0, 1, 2]
    assert entries.series[0].y.tolist() == [3, 18_757, 20_237]
    assert vertices.series[0].y.tolist() == [3, 475, 484]
    assert moves.series[0].x.tolist() == [1, 2]


def test_a_hit_lies_on_or_below_the_hull():
    rate = hit_rate(np.array([-0.1, 0.0, 1e-12, 0.001, 0.5]))
    assert (rate.hits, rate.calculations, rate.per_thousand) == (3, 5, 600)
    assert rate.interval.low == pytest.approx(230.7, abs=0.1)  # Wilson's, of 3 in 5
    assert rate.interval.high == pytest.approx(882.4, abs=0.1)
    nothing = hit_rate(np.empty(0))
    assert math.isnan(nothing.per_thousand)
    assert math.isnan(nothing.interval.low)


def test_a_median_lies_in_its_interval_and_a_constant_has_none_around_it():
    values = np.random.default_rng(0).normal(0.1, 0.05, 400)
    found = median(values)
    assert found.interval.low < found.value < found.interval.high
    # The normal distribution's: 1.2533 sigma / sqrt(n) each way.
    assert found.interval.high - found.interval.low == pytest.approx(2 * 1.96 * 1.2533 * 0.05 / 20, rel=0.35)
    assert median(np.full(9, 0.2)) == (0.2, (0.2, 0.2))


def test_times_chance_needs_hits_of_chance():
    many, few, none = hit_rate(-np.ones(10)), hit_rate(np.array([-1.0] + [1.0] * 9)), hit_rate(np.ones(1000))
    assert times_chance(many, few) == "10.0"
    assert times_chance(many, none).startswith("more than ")
    assert times_chance(few, hit_rate(np.ones(10))) == "too few to tell"
    assert times_chance(none, none) == "no hits on either side"
    assert times_chance(many, hit_rate(np.empty(0))) == "unknown"


def test_bins_hold_all_distances_and_one_begins_at_the_hull():
    rounds = [Round(1, summary(1)), Round(2, summary(2))]
    edges = distance_edges(rounds)
    assert np.abs(edges).min() == 0
    assert shares(np.array([-9.0, 0.1, 0.2, 9.0]), edges).sum() == pytest.approx(100)
    assert shares(rounds[0].distances("proposed"), edges).sum() == pytest.approx(100)


def test_the_projection_is_in_proportion_to_the_measured_rates(tmp_path):
    campaign = read_campaign(campaign_of(tmp_path, [summary(1), summary(2)]))
    assert step_seconds(campaign.rounds) == {
        "candidates": 20, "screen": 180, "relax": 200, "dft": 1200, "hull": 2, "train": 600
    }  # fmt: skip
    assert candidates_a_second(campaign.rounds[0]) == pytest.approx(1_200_000 / 1101)
    costs = {cost.step: cost for cost in projected(campaign, 2_400_000_000, 9_000_000)}
    assert set(costs) == {"candidates", "prediction", "pre-relaxation", "calculations", "hull"}
    assert costs["prediction"].rate == pytest.approx(2_400_000 / 180)
    assert costs["prediction"].hours == pytest.approx(180_000 / 3600)
    assert costs["pre-relaxation"].n == pytest.approx(10_000_000)  # ten for nine calculations
    assert costs["pre-relaxation"].hours == pytest.approx(10_000_000 / (2000 / 200) / 3600)  # 2000 in 200 s
    assert costs["calculations"].n == pytest.approx(9_000_000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (90, "90 s"), (150, "2.5 min"), (9000, "2.5 h"), (216_000, "2.5 days"), (math.nan, "\N{EN DASH}")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_page_needs_no_network_and_its_figures_are_seen(tmp_path, browser):
    page = write_campaign_report(campaign_of(tmp_path, map(summary, (1, 2, 3))))
    opened = OpenPage(browser, page)
    assert opened.problems == []
    assert [one for one in opened.requests if not one.startswith("file:")] == []
    assert opened.evaluate("document.querySelectorAll('figure.chart svg').length") >= 8
