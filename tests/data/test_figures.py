"""Where elements stand in the table, and that figures become images."""

import numpy as np
import pytest
from pymatgen.core import Element

from mlip.data.figures import place_in_table, plot_cutoffs, plot_elements
from mlip.data.subsample_study import CutoffResult


def test_every_element_stands_where_the_periodic_table_has_it():
    places = {number: place_in_table(number) for number in range(1, 119)}
    assert len(set(places.values())) == 118
    for number, (row, column) in places.items():
        element = Element.from_Z(number)
        if element.is_lanthanoid or element.is_actinoid:
            assert (row, column) == (8 if element.is_lanthanoid else 9, 3 + number - (57 if row == 8 else 89))
        else:
            assert (row, column) == (element.row, element.group)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_figures_are_written(tmp_path, suffix):
    plot_elements({"Na": 1, "Cl": 12_345}, tmp_path / f"a.{suffix}", "title")
    results = [CutoffResult(cutoff, 10, 100, kept) for cutoff, kept in ((0.0, 100), (0.01, 50), (np.inf, 29))]
    plot_cutoffs(results, tmp_path / f"b.{suffix}", "eV/atom")
    assert all((tmp_path / f"{name}.{suffix}").stat().st_size > 1000 for name in "ab")
