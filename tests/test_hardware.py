"""Numbers of the hardware: each device finds its own entry, or the nearest, and says so."""

import pytest

from mlip import hardware
from mlip.hardware import ACCELERATOR, CPU, Hardware, in_place, nearest


@pytest.mark.parametrize(
    ("kind", "platform", "found"),
    [
        ("cpu", "cpu", CPU),
        ("NVIDIA H200", "gpu", ACCELERATOR),
        ("TPU v5 lite", "tpu", ACCELERATOR),
        ("something new", "else", ACCELERATOR),
    ],
)
def test_a_device_without_an_entry_takes_the_nearest(kind, platform, found):
    assert nearest(kind, platform) is found


def test_an_entry_of_its_own_comes_first(monkeypatch):
    own = Hardware(**{**vars(ACCELERATOR), "device": "NVIDIA H200"})
    monkeypatch.setattr(hardware, "KNOWN", (CPU, ACCELERATOR, own))
    assert nearest("NVIDIA H200", "gpu") is own


def test_other_numbers_hold_while_they_are_measured_and_no_longer():
    other = Hardware(**{**vars(CPU), "prediction_edges": 64})
    with in_place(other):
        assert hardware.hardware() is other
    assert hardware.hardware() is CPU
    assert hardware.told().startswith("those of cpu (measured on")


def test_what_was_not_measured_says_so():
    assert "estimated" in ACCELERATOR.source
