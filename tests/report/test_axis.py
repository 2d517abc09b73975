"""Axes: round numbers beside them, values in their places."""

import numpy as np
import pytest

from mlip.report.axis import Axis, tick_text


@pytest.mark.parametrize("is_log", [False, True])
def test_ticks_are_few_and_within_the_axis_whatever_its_range(is_log):
    rng = np.random.default_rng(0)
    for low, width in zip(10 ** rng.uniform(-6, 6, 300), 10 ** rng.uniform(-3, 4, 300), strict=True):
        axis = Axis("", low, low * (1 + width), is_log)
        ticks = axis.ticks()
        assert 2 <= len(ticks) <= 10, axis
        assert all(axis.low <= tick <= axis.high * (1 + 1e-9) for tick in ticks)


def test_ticks_are_round():
    assert Axis("", -5.7, 4.9).ticks() == [-4, -2, 0, 2, 4]
    assert Axis("", 0.004, 30, is_log=True).ticks() == pytest.approx([0.01, 0.1, 1, 10])
    texts = {0.0: "0", -20.0: "\N{MINUS SIGN}20", 0.05: "0.05", 12000.0: "12,000", 2e-5: "2·10⁻⁵", 1e7: "10⁷"}
    assert {tick: tick_text(tick) for tick in texts} == texts


@pytest.mark.parametrize("last", [1, 2, 3, 9, 40])
def test_rounds_are_counted_in_whole_numbers(last):
    ticks = Axis("round", 0.5, last + 0.5, is_whole=True).ticks()
    assert ticks == [round(tick) for tick in ticks]
    assert 1 <= len(ticks) <= 10
    assert all(1 <= tick <= last for tick in ticks)


def test_equal_factors_are_equal_lengths_on_a_logarithmic_axis():
    places = Axis("", 1, 10_000, is_log=True).fractions([1, 10, 100, 0, -1])
    assert places[:3] == pytest.approx([0, 0.25, 0.5])
    assert np.isnan(places[3:]).all()


def test_an_axis_spans_what_has_a_place_on_it():
    axis = Axis.spanning("", [np.array([np.nan, 0.0, 2.0]), np.array([-1.0, 50.0])], is_log=True)
    assert 1 < axis.low < 2
    assert 50 < axis.high < 100
    one_value = Axis.spanning("", [np.array([3.0])])
    assert one_value.low < 3 < one_value.high
    nothing = Axis.spanning("", [np.array([np.nan])], is_log=True)
    assert 0 < nothing.low < nothing.high
