"""A chart is the same on a page and in a picture."""

import numpy as np
import pytest

from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series
from mlip.report.picture import picture_of, save_charts

DOTS = Series("test", np.array([1.0, 2.0, 3.0]), np.array([1.1, 2.1, 2.9]), "dots", 2)
BARS = Series("p", np.array([2.5, 7.5]), np.array([0.25, 1.0]), "bars", 0)


def test_axes_series_and_guides_of_a_chart_are_drawn():
    chart = Chart(
        [DOTS], Axis("step", 0.5, 4.0), Axis("loss", 0.1, 10.0, is_log=True), "Loss", guides={"stage one": 2.5}
    )
    (panel,) = picture_of([chart], "a run").axes
    assert (panel.get_xlim(), panel.get_ylim(), panel.get_yscale()) == ((0.5, 4.0), (0.1, 10.0), "log")
    points, guide = panel.lines
    assert points.get_ydata() == pytest.approx(DOTS.y)
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["test", "stage one"]
    assert guide.get_xdata()[0] == 2.5


def test_bars_stand_on_their_bins():
    chart = Chart([BARS], Axis("error", 0, 10), Axis("share", 0, 1.1), "")
    (panel,) = picture_of([chart]).axes
    assert panel.patches[0].get_data().edges == pytest.approx([0, 5, 10])


def test_a_picture_without_a_chart_is_one_all_the_same(tmp_path):
    save_charts([], tmp_path / "none.png")
    assert (tmp_path / "none.png").stat().st_size > 1000
