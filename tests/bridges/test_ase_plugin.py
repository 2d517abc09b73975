"""ASE's experimental plugins have the calculator by name."""

import pytest

import mlip
from mlip import ase_plugin


def test_the_entry_point_names_the_calculator():
    pytest.importorskip("ase._4.plugins.plugin", reason="this ASE has no plugin system")
    (plugin,) = ase_plugin.__ase_plugins__
    assert plugin.name == "mlip"
    assert plugin.implementation is mlip.MLIPCalculator
