"""Pieces of a report: what they draw is what they were given."""

import json
import re

import numpy as np
import pytest
from ase.data import chemical_symbols

from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series
from mlip.report.page import json_block
from mlip.report.periodic_table import periodic_table
from mlip.report.pieces import table
from mlip.report.structure_view import structure_view

X, Y = Axis("x", 0, 10), Axis("y", 0, 1)


def data_of(piece: str) -> dict:
    return json.loads(re.search(r"<script type='application/json'>(.*?)</script>", piece)[1])


def test_points_stand_where_their_values_are():
    points = Series("p", np.array([0.0, 10.0, 5.0, 3.0]), np.array([0.0, 1.0, np.nan, 0.5]), "dots", 0)
    drawn = Chart([points], X, Y, "").to_html()
    width, height = data_of(drawn)["x"]["length"], data_of(drawn)["y"]["length"]
    path = re.search(r"class='dots' d='(.*?)'", drawn)[1]
    assert path == f"M0.0 {height:.1f}h0M{width:.1f} 0.0h0M{0.3 * width:.1f} {height / 2:.1f}h0"


def test_bars_end_at_their_values():
    bars = Chart([Series("p", np.array([2.5, 7.5]), np.array([0.25, 1.0]), "bars", 0)], X, Y, "").to_html()
    width, height = data_of(bars)["x"]["length"], data_of(bars)["y"]["length"]
    half = f"{width / 2:.1f}"
    path = f"M0.0 {height}L0.0 {0.75 * height:.1f}H{half}L{half} 0.0H{width:.1f}V{height}Z"
    assert path in bars


def test_a_guide_stands_at_its_value():
    series = [Series("p", np.array([1.0]), np.array([0.5]), "dots", 0)]
    drawn = Chart(series, X, Y, "", guides={"<here>": 5.0}).to_html()
    width = data_of(drawn)["x"]["length"]
    assert f"<path class='guide' d='M{width / 2:.1f} 0V" in drawn
    assert "&lt;here&gt;" in drawn


def test_names_from_outside_are_text_and_not_markup():
    bad = "<script>alert(1)</script>"
    points = Series(bad, np.array([1.0]), np.array([0.5]), "dots", 0, notes=[bad])
    pieces = (
        Chart([points], Axis(bad, 0, 1), Y, bad).to_html(),
        structure_view(bad, bad, [1], np.eye(3), np.zeros((1, 3)), [True] * 3),
        table(bad, [bad], [], notes=[bad]),
        periodic_table({"H": 1.0}, bad, ".0f", {"H": bad}),
        json_block({bad: bad}),
    )
    for piece in pieces:
        assert "<script>" not in piece
        assert piece.count("</script>") == piece.count("<script type='application/json'>")


def test_every_element_has_one_place_on_the_periodic_table():
    drawn = periodic_table(dict.fromkeys(chemical_symbols[1:], 1.0), "", ".0f", {})
    cells = re.findall(r"grid-area: (\d+ / \d+).*?<b>(\w+)</b>", drawn)
    assert {symbol for _, symbol in cells} == set(chemical_symbols[1:])
    assert len({place for place, _ in cells}) == 118
    assert {"1 / 18": "He", "9 / 3": "La", "6 / 3": "Lu", "7 / 18": "Og"}.items() <= dict(cells).items()


def test_colors_tell_size_and_sign():
    drawn = periodic_table({"H": -1.0, "He": 4.0, "Li": 0.0, "Be": np.nan}, "eV", "+.1f", {"H": "3 atoms"})
    assert "H: -1.0 eV, 3 atoms" in drawn
    colors = dict(re.findall(r"aria-label='(\w+):.*?--hue: var\(--(\w+\); --level: \d+)%", drawn))
    assert colors == {"H": "cool); --level: 50", "He": "warm); --level: 100", "Li": "warm); --level: 0"}
    assert re.search(r"<li style='grid-area: 2 / 2'><b>Be</b></li>", drawn)  # not known


def test_atoms_on_a_face_are_on_the_lower_one_and_those_in_a_vacuum_stay():
    cell = np.diag([4.0, 4.0, 20.0])
    positions = [[3.996, 0.0, 10.0], [-0.5, 2.0, -0.1], [4.0, 2.0, 20.0]]
    view = data_of(structure_view("a", "", [6, 6, 6], cell, positions, [True, True, False]))
    assert view["fractional"] == [[-0.001, 0, 0.5], [-0.125, 0.5, -0.005], [0, 0.5, 1]]


def test_arrows_are_relative_to_the_longest():
    view = data_of(structure_view("a", "", [6, 6], np.eye(3), np.zeros((2, 3)), [True] * 3, [[0, 0, 5], [0, 1, 0]]))
    assert view["arrows"] == [[0, 0, 1], [0, 0.2, 0]]


@pytest.mark.parametrize("cell", [None, np.zeros((3, 3)) * np.nan, np.diag([1.0, 1.0, 1e-12])])
def test_what_cannot_be_drawn_is_left_out(cell):
    assert structure_view("a", "", [6], cell, np.zeros((1, 3)), [True] * 3) == ""
