"""A broken installation is found out."""

import numpy as np
import pytest

from mlip import self_test
from mlip.potential import Potential


def test_this_installation_is_in_order():
    assert self_test.faults() == []


@pytest.mark.parametrize("name", ["energy", "force", "stress"])
def test_a_number_that_is_off_is_named(monkeypatch, name):
    numbers = dict(self_test._EXPECTED)
    numbers[name] *= 1.002
    result = {
        "energy": numbers["energy"],
        "forces": np.array([[numbers["force"], 0, 0]]),
        "stress": np.array([numbers["stress"]]),
    }
    monkeypatch.setattr(Potential, "predict", lambda *_, **__: [result])
    (fault,) = self_test.faults()
    assert f"the {name} of a test crystal wrong" in fault


def test_wrong_sums_are_named(monkeypatch):
    monkeypatch.setattr(self_test, "sums_are_right", lambda: False)
    (fault,) = self_test.faults()
    assert "39103" in fault
