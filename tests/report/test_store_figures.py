"""Where elements stand in the table, and that figures become images."""

import numpy as np
import pytest
from pymatgen.core import Element

from mlip.data.subsample_study import CutoffResult
from mlip.report.periodic_table import PLACES
from mlip.report.store_figures import plot_cutoffs, plot_elements


def test_every_element_stands_where_the_periodic_table_has_it():
    assert len(set(PLACES.values())) == len(PLACES) == 118
    for symbol, place in PLACES.items():
        element = Element(symbol)
        first = next((z for z in (57, 89) if z <= element.Z < z + 14), None)
        assert place == ((element.row, element.group) if first is None else (element.row + 3, 3 + element.Z - first))


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_figures_are_written(tmp_path, suffix):
    plot_elements({"Na": 1, "Cl": 12_345}, tmp_path / f"a.{suffix}", "title")
    results = [CutoffResult(cutoff, 10, 100, kept) for cutoff, kept in ((0.0, 100), (0.01, 50), (np.inf, 29))]
    plot_cutoffs(results, tmp_path / f"b.{suffix}", "eV/atom")
    assert all((tmp_path / f"{name}.{suffix}").stat().st_size > 1000 for name in "ab")
