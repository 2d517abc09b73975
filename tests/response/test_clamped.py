"""Crystals as they are have the results of a relaxation without steps, odd ones included."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from jax.errors import JaxRuntimeError

import mlip.response.clamped as module
from mlip.relaxation import relax
from mlip.response.clamped import clamped


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_results_are_those_of_a_relaxation_without_steps(potential, crystals, dtype, monkeypatch):
    dense = bulk("Cu", a=1.0)
    alone = Atoms("Cu", cell=3 * [40.0], pbc=True)
    layer = Atoms("Cu", cell=[2.6, 2.6, 20], pbc=[True, True, False])
    lost = bulk("Cu", a=3.6)
    lost.positions[0] = np.nan
    coincident = Atoms("Cu2", positions=np.zeros((2, 3)), cell=3 * [4.0], pbc=True)
    denser = bulk("Cu", a=0.12)  # a neighbor list of millions
    unknown = Atoms("X", cell=3 * [3.0], pbc=True)
    odd = [dense, alone, layer, lost, coincident, unknown, denser]
    structures = [*crystals.values(), *odd]
    one_by_one = []
    monkeypatch.setattr(module, "relax", lambda atoms, *a, **k: one_by_one.extend(atoms) or relax(atoms, *a, **k))
    found = clamped(structures, potential, fmax=1e-2, dtype=dtype)
    assert [atoms.symbols.get_chemical_formula() for atoms in one_by_one] == ["Cu", "Cu", "Cu", "Cu", "Cu2", "X", "Cu"]
    expected = relax(structures, potential, fmax=1e-2, steps=0, cell=False, dtype=dtype, progress=False)
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    for one, other in zip(found, expected, strict=True):
        assert (one.reason, one.converged, one.n_steps) == (other.reason, other.converged, 0)
        np.testing.assert_allclose(one.atoms.cell, other.atoms.cell, rtol=1e-12)
        if one.failed:
            continue
        for key in ("energy", "fmax", "initial_energy", "max_stress"):
            assert getattr(one, key) == pytest.approx(getattr(other, key), abs=tolerance, nan_ok=True), key
        for key, value in one.atoms.calc.results.items():
            np.testing.assert_allclose(value, other.atoms.calc.results[key], atol=tolerance)
        assert one.atoms.calc.parameters == other.atoms.calc.parameters  # the potential's name, checksum, functional
    reasons = [one.reason for one in found[len(crystals) :]]
    assert reasons[:2] == ["collapsed", "isolated"]
    assert reasons[3:] == ["error", "error", "error", "error"]


def test_what_does_not_fit_into_the_memory_is_relaxed_in_smaller_batches(potential, crystals, monkeypatch):
    def exhausted(self, *args, **kwargs):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    expected = clamped([crystals["hexagonal"]], potential, fmax=1e-2, dtype="float64")
    monkeypatch.setattr(type(potential), "try_predict", exhausted)
    (found,) = clamped([crystals["hexagonal"]], potential, fmax=1e-2, dtype="float64")
    assert found.energy == pytest.approx(expected[0].energy)
