"""A page of every piece, in a real browser without a network: it is drawn, it answers, and nothing goes wrong."""

import numpy as np
import pytest

from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series
from mlip.report.page import write_page
from mlip.report.periodic_table import periodic_table
from mlip.report.pieces import facts, table, tabs
from mlip.report.structure_view import structure_view, turning_together
from tests.browser import OpenPage

PIXELS = "Array.from(document.querySelectorAll('canvas'), (canvas) => canvas.toDataURL())"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    line = Series("training", np.array([1.0, 10.0, 100.0]), np.array([1.0, 0.1, 0.01]), "line", 0, ["a", "b", "c"])
    dots = Series("test", np.array([1.0, 100.0]), np.array([0.01, 1.0]), "marked line", 2)
    x, y = Axis("step", 1, 100, is_log=True), Axis("loss", 0.01, 1, is_log=True)
    copper = [[29], 3 * np.eye(3), [[0, 0, 0]], [True] * 3]
    sections = {
        "Curves & co": Chart([line, dots], x, y, "Loss").to_html() + facts({"model": "<m3gnet>"}),
        "Elements": tabs(
            "by", {"forces": periodic_table({"Fe": 2.0}, "eV", ".1f", {}), "energies": table("t", [""], [])}
        ),
        "Structures": turning_together(
            [structure_view("Cu", "before", *copper), structure_view("Cu", "after", *copper)]
        ),
    }
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(path, "A page", "of all pieces", sections)
    return path


@pytest.fixture
def page(browser, path):
    page = OpenPage(browser, path)
    page.prefer(scheme="light")
    yield page
    assert page.problems == []
    assert page.requests == [path.as_uri()]


def place(page: OpenPage, expression: str) -> tuple[float, float]:
    """The middle of an element, in the window."""
    page.evaluate(f"{expression}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    box = page.evaluate(
        f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({expression}.getBoundingClientRect())"
    )
    return tuple(box)


def test_pointing_at_a_chart_tells_the_values_there(page):
    page.move_to(*place(page, "document.querySelector('.chart .grid')"))  # the middle: step 10, loss 0.1
    assert page.evaluate("document.querySelector('.tip').textContent") == "training, b\nstep: 10\nloss: 0.1"
    page.move_to(1, 1)
    assert page.evaluate("document.querySelector('.tip').hidden")


def test_the_legend_hides_and_shows_a_series(page):
    shown = "getComputedStyle(document.querySelector('.series[data-series=\"0\"]')).display"
    click = "document.querySelector('.legend button').click()"
    assert page.evaluate(shown) != "none"
    page.evaluate(click)
    assert page.evaluate(shown) == "none"
    page.move_to(*place(page, "document.querySelector('.chart .grid')"))
    assert page.evaluate("document.querySelector('.tip').hidden")  # what is hidden has no values
    page.evaluate(click)
    assert page.evaluate(shown) != "none"


def test_structures_are_drawn_and_turn_together_by_mouse_and_by_keys(page):
    before = page.evaluate(PIXELS)
    assert len(before) == 2
    assert len(before[0]) > 5000  # an empty canvas is far shorter
    x, y = place(page, "document.querySelector('canvas')")
    page.drag((x, y), (x + 60, y + 20))
    dragged = page.evaluate(PIXELS)
    assert all(new != old for new, old in zip(dragged, before, strict=True))
    page.evaluate("document.querySelector('canvas').focus()")
    page.press("ArrowLeft")
    assert all(new != old for new, old in zip(page.evaluate(PIXELS), dragged, strict=True))


def test_a_tab_shows_its_panel_and_hides_the_other(page):
    shown = "Array.from(document.querySelectorAll('.tabs > div'), (panel) => panel.offsetHeight > 0)"
    assert page.evaluate(shown) == [True, False]
    page.evaluate("document.querySelectorAll('.tabs label')[1].click()")
    assert page.evaluate(shown) == [False, True]


def test_the_page_follows_the_readers_theme_and_prints_in_the_light_one(page):
    paper = "getComputedStyle(document.body).backgroundColor"
    for scheme, media, color in (
        ("light", "screen", "rgb(255, 255, 255)"),
        ("dark", "screen", "rgb(20, 23, 26)"),
        ("dark", "print", "rgb(255, 255, 255)"),
    ):
        page.prefer(scheme=scheme, media=media)
        assert page.evaluate(paper) == color


def test_the_policy_lets_nothing_in_from_outside(browser, path):
    page = OpenPage(browser, path)
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.org/a.png'}))")
    assert any("Content Security Policy" in str(problem) for problem in page.problems)
