"""Whether a potential knows when it is wrong, from the records of relaxations."""

import numpy as np
import pytest

from mlip.benchmark.certainty import Judged, auroc, certainty_tables
from mlip.benchmark.results import PotentialResults
from mlip.benchmark.tables import Estimate


def record(k: int, energy_error: float, energy_std: float, volume_error: float, **others) -> dict:
    """Of a cell of 2 atoms; errors and deviations in eV/atom and %."""
    return {
        "id": f"agm{k}",
        "dimensionality": 3,
        "functional": "PBE",
        "n_atoms": 2,
        "dft_energy": -6.0,
        "energy": -6.0 + 2 * energy_error,
        "dft_volume": 40.0,
        "volume": 40.0 * (1 + volume_error / 100),
        "energy_std": 2 * energy_std,
        **others,
    }


def records() -> list[dict]:
    return [
        record(0, 0.01, 0.02, 1.0, relative_volume_std=0.01, do_not_trust=False),
        record(1, -0.2, 0.10, -12.0, relative_volume_std=0.05, do_not_trust=True),
        record(2, 0.05, 0.01, 2.0, relative_volume_std=0.06, do_not_trust=False),
        record(3, 0.15, 0.20, 11.0, relative_volume_std=0.20, do_not_trust=True),
        record(4, 0.12, 0.015, 0.0, do_not_trust=False),
        record(5, 0.0, 0.0, 0.0) | {"volume": None, "reason": "collapsed"},
    ]


def test_auroc_counts_pairs_in_the_right_order_and_ties_half():
    is_off = np.array([True, True, False, False, False])
    score = np.array([3.0, 1.0, 1.0, 0.5, 2.0])
    pairs = [(a > b) + 0.5 * (a == b) for a in score[is_off] for b in score[~is_off]]
    assert auroc(is_off, score) == pytest.approx(np.mean(pairs))
    assert np.isnan(auroc(np.zeros(5, bool), score))


def test_errors_and_deviations_are_by_atom_and_failures_left_out():
    judged = Judged.of(records())
    assert len(judged) == 5
    np.testing.assert_allclose(judged.energy_error, [0.01, -0.2, 0.05, 0.15, 0.12], atol=1e-12)
    np.testing.assert_allclose(judged.energy_std, [0.02, 0.1, 0.01, 0.2, 0.015])
    assert judged.is_covered.tolist() == [True, False, False, True, False]
    assert judged.is_energy_off.tolist() == [False, True, False, True, True]
    assert judged.is_volume_off.tolist() == [False, True, False, True, False]


def test_the_table_has_what_the_records_know():
    (table,) = certainty_tables([PotentialResults("four", "0", [], records())])
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    numbers = {name: cell.value if isinstance(cell, Estimate) else cell for name, cell in cells.items()}
    assert numbers["AUROC energy"] == pytest.approx(5 / 6)
    assert numbers["AUROC volume"] == pytest.approx(3 / 4)  # of the four with a deviation
    assert numbers["in 90 % interval %"] == pytest.approx(40)
    assert numbers["doubted %"] == pytest.approx(40)
    assert numbers["off, doubted %"] == pytest.approx(100)
    assert numbers["off, trusted %"] == pytest.approx(100 / 3)
    assert (numbers["energies off"], numbers["volumes off"], numbers["materials"]) == ("3", "2", "5")
    assert "AUROC" in table.to_markdown()


def test_potentials_without_deviations_have_no_table():
    keys = ("energy_std", "relative_volume_std", "do_not_trust")
    bare = [{key: value for key, value in one.items() if key not in keys} for one in records()]
    assert certainty_tables([PotentialResults("one", "0", [], bare)]) == ()


def test_flags_need_a_calibration():
    bare = [{key: value for key, value in one.items() if key != "do_not_trust"} for one in records()]
    (table,) = certainty_tables([PotentialResults("four", "0", [], bare)])
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert np.isnan(cells["doubted %"].value)
    assert np.isfinite(cells["in 90 % interval %"].value)
