"""Ensembles: one potential of several, in one file, which says how far its members are apart."""

import pickle
from functools import partial

import ase.io
import jax
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

import mlip
from mlip import energy_gradient
from mlip.energy_gradient import of_members
from mlip.errors import MlipError
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.stacked_structures import Structures
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, evaluate_batch
from mlip.uncertainty.ensembles import ensemble, members
from tests.uncertain_world import crystals, cubic, seeds


@pytest.fixture(scope="module")
def few() -> list[Potential]:
    return seeds(3, references=0.1)


@pytest.fixture(scope="module")
def committee(few, tmp_path_factory) -> Potential:
    return mlip.load(ensemble(few).save(tmp_path_factory.mktemp("committee") / "committee.safetensors"))


def test_predictions_are_the_mean_and_spread_of_the_members(few, committee):
    each = [potential.predict(crystals(), dtype="float64") for potential in few]
    for k, together in enumerate(committee.predict(crystals(), dtype="float64")):
        for key in ("energy", "forces", "stress", "energies"):
            of_members = np.array([one[k][key] for one in each])
            np.testing.assert_allclose(together[key], of_members.mean(axis=0), atol=1e-6)  # E0 offsets: float32
            if key != "energies":
                np.testing.assert_allclose(together[f"{key}_std"], of_members.std(axis=0, ddof=1), atol=1e-6)
        assert "do_not_trust" not in together  # it was not calibrated
        assert together["energy_std"] > 0


def test_members_together_and_one_by_one_are_the_same(committee, monkeypatch):
    """Large batches go through the network member by member."""
    graphs = committee.config.inputs.graphs(Structures.of(crystals()[:3]), np.float32)
    graph = pad_batch(list(graphs), Shape(16, 1024, 4))
    found = []
    for together in (0, 10_000):
        monkeypatch.setattr(energy_gradient, "_TOGETHER", together)
        evaluate = jax.jit(partial(of_members, committee.model))  # a new function: it is traced again
        found.append(evaluate(committee.params, graph, 1.0, 0.0))
    for one, other in zip(jax.tree.leaves(found[0]), jax.tree.leaves(found[1]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_members_can_be_taken_out_again(few, committee):
    for ours, theirs in zip(members(committee), few, strict=True):
        for a, b in zip(ours.predict(crystals()), theirs.predict(crystals()), strict=True):
            assert a["energy"] == pytest.approx(b["energy"], abs=1e-5)


def test_the_calculator_gives_what_predict_gives_and_ase_keeps_it(committee, tmp_path):
    atoms = crystals()[1]
    calculator = pickle.loads(pickle.dumps(mlip.MLIPCalculator(committee, dtype="float64")))
    atoms.calc = calculator
    (predicted,) = committee.predict([atoms], dtype="float64")
    assert atoms.get_potential_energy() == pytest.approx(predicted["energy"], abs=1e-10)
    for key in ("energy_std", "forces_std", "stress_std"):
        np.testing.assert_allclose(calculator.get_property(key, atoms), predicted[key], atol=1e-8)
    assert calculator.n_calls == 1
    assert calculator.do_not_trust is None
    kept = SinglePointCalculator(atoms, **calculator.results)
    assert kept.results["energy_std"] == calculator.results["energy_std"]
    ase.io.write(tmp_path / "path.traj", atoms)
    assert ase.io.read(tmp_path / "path.traj").calc.results["energy_std"] == pytest.approx(predicted["energy_std"])


def test_relaxations_follow_the_mean_and_end_with_the_spread_of_where_they_end(committee):
    (result,) = mlip.relax(crystals()[0], committee, steps=3, fmax=1e-6, progress=False, dtype="float64")
    atoms = crystals()[0]
    atoms.calc = mlip.MLIPCalculator(committee, dtype="float64")
    assert result.initial_energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    (there,) = committee.predict([result.atoms], dtype="float64")
    assert result.energy == pytest.approx(there["energy"], abs=1e-8)
    assert result.energy_std == pytest.approx(there["energy_std"], abs=1e-8)
    assert result.as_record()["energy_std"] == result.energy_std
    assert "do_not_trust" not in result.as_record()


def test_the_spread_of_relaxed_volumes_is_that_of_the_members_own_relaxations():
    """To first order, so of members that differ little; atoms of this crystal follow the cell by symmetry."""
    few = seeds(3, size=2e-4)
    options = {"fmax": 1e-6, "dtype": "float64", "progress": False, "steps": 2000}
    (result,) = mlip.relax(cubic(), ensemble(few), **options)
    volumes = [mlip.relax(cubic(), one, **options)[0].atoms.get_volume() for one in few]
    expected = np.std(volumes, ddof=1) / np.mean(volumes)
    assert result.converged
    assert result.relative_volume_std == pytest.approx(expected, rel=0.05)


def test_a_fixed_cell_has_no_spread_of_its_volume(committee):
    (result,) = mlip.relax(crystals()[1], committee, cell=False, steps=1, progress=False)
    assert result.energy_std > 0
    assert result.relative_volume_std is None


def test_the_hessian_and_the_energy_function_are_those_of_the_mean(few, committee):
    atoms = crystals()[1]
    expected = np.mean([one.hessian(atoms) for one in few], axis=0)
    np.testing.assert_allclose(committee.hessian(atoms), expected, atol=1e-8)


def test_a_potential_by_itself_is_what_it_was(few):
    (single,) = few[0].predict([crystals()[0]])
    assert set(single) == {"energy", "forces", "stress", "energies"}
    assert few[0].evaluation is evaluate_batch
    (result,) = mlip.relax(crystals()[0], few[0], steps=1, progress=False)
    assert result.energy_std is None
    assert not {"energy_std", "relative_volume_std", "do_not_trust"} & set(result.as_record())
    atoms = crystals()[0]
    atoms.calc = mlip.MLIPCalculator(few[0])
    atoms.get_forces()
    assert "energy_std" not in atoms.calc.results


def test_what_differs_is_told_in_one_line(few):
    other = M3GNetConfig(units=6, n_blocks=2)
    deeper = Potential(other, init_parameters(other), few[0].metadata)
    with pytest.raises(MlipError, match=r"b: differs from a in its config, n_blocks: 2, not 1"):
        ensemble([few[0], deeper], ["a", "b"])
    with pytest.raises(MlipError, match="differs from a in its functional: PBEsol, not PBE"):
        ensemble([few[0], few[1].with_metadata(functional="PBEsol")], ["a", "b"])
    fewer = {key: energy for key, energy in few[0].metadata.reference_energies.items() if key != "Cu"}
    with pytest.raises(MlipError, match="elements: only those in common, not only Cu"):
        ensemble([few[0], few[1].with_metadata(reference_energies=fewer)], ["a", "b"])
    with pytest.raises(MlipError, match="b: is the same potential as a"):
        ensemble([few[0], few[0]], ["a", "b"])
    with pytest.raises(MlipError, match="an ensemble of 1"):
        ensemble(few[:1])
    with pytest.raises(MlipError, match="is an ensemble already"):
        ensemble([ensemble(few), ensemble(few[:2])])
