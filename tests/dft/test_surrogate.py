"""A surrogate in the place of DFT: its own name on all of its numbers, one outcome each, nothing twice after a kill."""

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, fcc111
from ase.calculators import emt
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from mlip.dft import FINISHED, NOT_STARTED, Proposal, SurrogateRecipe, calculated_functional, collect, hand_over
from mlip.dft.records import NO_INPUTS, STEPS_USED_UP
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.relaxation import relax
from mlip.relaxation.results_file import read_results
from tests.conftest import REPOSITORY
from tests.dft.dying_surrogate import EMT, proposals

RECIPE = SurrogateRecipe(kind="ase", calculator=EMT)


def calculated(recipe: SurrogateRecipe, given: list[Proposal], folder: Path) -> list:
    hand_over(recipe, given, folder, progress=False)
    return collect(recipe, folder)


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> Path:
    """A tiny network of all elements with random weights."""
    config = M3GNetConfig(units=8)
    metadata = PotentialMetadata(
        reference_energies=dict.fromkeys(("Cu", "Al", "Ni", "Ag", "Au", "Pd", "Pt"), -3.0), functional="PBE"
    )
    return Potential(config, init_parameters(config), metadata).save(tmp_path_factory.mktemp("p") / "tiny.safetensors")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    hand_over(RECIPE, proposals(), folder, progress=False)
    return folder


def test_a_calculator_relaxes_as_ase_does_and_its_name_is_on_its_numbers(undisturbed):
    outcome, atoms = collect(RECIPE, undisturbed)[0], proposals()[0].atoms
    assert (outcome.reason, outcome.functional) == (FINISHED, "surrogate:EMT")
    assert calculated_functional(RECIPE) == "surrogate:EMT"
    atoms.calc = emt.EMT()
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=RECIPE.fmax)
    assert outcome.frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(outcome.frame.cell, atoms.cell, atol=1e-4)
    np.testing.assert_allclose(outcome.frame.stress, atoms.get_stress(), atol=1e-5)
    assert outcome.frame.forces.shape == (2, 3)


def test_one_structure_that_fails_has_its_reason_and_the_others_go_on(undisturbed):
    outcomes = collect(RECIPE, undisturbed)
    assert [outcome.id for outcome in outcomes] == [proposal.id for proposal in proposals()]
    assert Counter(outcome.reason for outcome in outcomes) == {FINISHED: 12, "error": 1}
    assert (outcomes[4].message, outcomes[4].frame) == ("EMT failed: No EMT-potential for Fe", None)
    assert {outcome.functional for outcome in outcomes} == {"surrogate:EMT"}


@pytest.mark.parametrize("calls", [(1, 4, 7), (13,)])
def test_killed_with_signal_9_it_loses_nothing_and_calculates_nothing_twice(undisturbed, tmp_path, calls):
    for call in calls:
        command = [sys.executable, "-m", "tests.dft.dying_surrogate", str(tmp_path), EMT, str(call)]
        died = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert died.returncode == -signal.SIGKILL, died.stderr
    _, before = read_results(tmp_path / "results.jsonl")
    assert len(before) == sum(calls)
    known = collect(RECIPE, tmp_path)
    assert Counter(one.reason for one in known)[NOT_STARTED] == len(proposals()) - len(before)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"proposal": "r001-0000')  # a line that a kill cut short
    hand_over(RECIPE, proposals(), tmp_path, progress=False)
    _, records = read_results(tmp_path / "results.jsonl")
    assert records[: len(before)] == before
    assert Counter(record["proposal"] for record in records) == {proposal.id: 1 for proposal in proposals()}
    for ours, theirs in zip(collect(RECIPE, tmp_path), collect(RECIPE, undisturbed), strict=True):
        assert (ours.id, ours.reason, ours.n_steps) == (theirs.id, theirs.reason, theirs.n_steps)
        if ours.frame is not None:
            assert ours.frame.energy == theirs.frame.energy
            np.testing.assert_array_equal(ours.frame.positions, theirs.frame.positions)


def test_a_potential_of_mlips_relaxes_in_batches(potential, tmp_path):
    recipe = SurrogateRecipe(kind="ase", calculator=str(potential), steps=3, dtype="float64")
    given = proposals()[:3]
    outcomes = calculated(recipe, given, tmp_path)
    expected = relax([one.atoms for one in given], potential, steps=3, dtype="float64", progress=False)
    reasons = {"converged": FINISHED, "max_steps": STEPS_USED_UP}
    assert [one.reason for one in outcomes] == [reasons[one.reason] for one in expected]
    assert {one.functional for one in outcomes} == {"surrogate:tiny"}
    records = {record["proposal"]: record for record in read_results(tmp_path / "results.jsonl")[1]}
    for one, result in zip(given, expected, strict=True):
        assert records[one.id]["energy"] == pytest.approx(result.energy, abs=1e-9)


def test_on_a_cluster_it_is_the_same(undisturbed, tmp_path):
    pytest.importorskip("distributed")
    recipe = RECIPE.model_copy(update={"cluster": "local:1"})
    for ours, theirs in zip(calculated(recipe, proposals(), tmp_path), collect(RECIPE, undisturbed), strict=True):
        assert (ours.id, ours.reason, ours.message) == (theirs.id, theirs.reason, theirs.message)
        if ours.frame is not None:
            assert ours.frame.energy == pytest.approx(theirs.frame.energy, abs=1e-9)
    hand_over(RECIPE, proposals(), tmp_path, progress=False)  # where it runs decides nothing


def test_the_vacuum_of_a_layer_stays_what_it_is(tmp_path):
    slab = fcc111("Cu", (1, 1, 3), a=3.5, vacuum=5.0)
    outcomes = []
    for name, pbc in (("open", [True, True, False]), ("closed", True)):
        slab.pbc = pbc
        outcomes += calculated(RECIPE, [Proposal(name, slab.copy(), 2)], tmp_path / name)
    for outcome in outcomes:
        assert outcome.reason == FINISHED
        assert np.linalg.norm(outcome.frame.cell[2]) == pytest.approx(slab.cell.lengths()[2])
        assert np.linalg.norm(outcome.frame.cell[0]) > slab.cell.lengths()[0] * 1.005
    assert outcomes[0].frame.energy == pytest.approx(outcomes[1].frame.energy, abs=1e-6)


def test_a_periodicity_that_fits_no_dimensionality_is_an_outcome(tmp_path):
    odd = bulk("Cu")
    odd.pbc = [True, False, False]
    outcomes = calculated(RECIPE, [Proposal("odd", odd, 2), Proposal("even", bulk("Cu"))], tmp_path)
    assert [one.reason for one in outcomes] == [NO_INPUTS, FINISHED]
    assert "dimensionality 2 with pbc" in outcomes[0].message


def test_other_surrogates_and_structures_are_not_mixed_in(undisturbed, potential, tmp_path):
    hand_over(RECIPE, [Proposal("a", bulk("Cu"))], tmp_path, progress=False)
    with pytest.raises(MlipError, match="with another recipe: calculator is"):
        hand_over(SurrogateRecipe(kind="ase", calculator=str(potential)), proposals(), tmp_path, progress=False)
    with pytest.raises(MlipError, match=r"another recipe: fmax is 0\.05, not 0\.01"):
        collect(RECIPE.model_copy(update={"fmax": 0.01}), tmp_path)
    with pytest.raises(MlipError, match="another structure was handed over by this id"):
        hand_over(RECIPE, [Proposal("a", bulk("Al"))], tmp_path, progress=False)


def test_another_file_of_the_same_name_is_no_longer_the_surrogate(potential, tmp_path):
    own = tmp_path / "own.safetensors"
    own.write_bytes(potential.read_bytes())
    recipe = SurrogateRecipe(kind="ase", calculator=str(own), steps=1)
    calculated(recipe, proposals()[:1], tmp_path / "dft")
    config = M3GNetConfig(units=4)
    metadata = PotentialMetadata(reference_energies={"Cu": -4.0}, functional="PBE")
    Potential(config, init_parameters(config), metadata).save(own)
    with pytest.raises(MlipError, match="results of another potential"):
        hand_over(recipe, proposals()[:2], tmp_path / "dft", progress=False)


def test_a_second_process_is_kept_out(tmp_path):
    from mlip.files.one_writer import one_writer

    with (
        one_writer(tmp_path / ".lock", MlipError("held")),
        pytest.raises(MlipError, match="another process hands over here now"),
    ):
        hand_over(RECIPE, proposals(), tmp_path, progress=False)


def test_recipes_name_registered_potentials_by_their_own_name():
    assert calculated_functional(SurrogateRecipe(kind="ase", calculator="nequix-oam-1")) == "surrogate:nequix-oam-1"
    with pytest.raises(ValueError, match="its own precision"):
        SurrogateRecipe(kind="ase", calculator=EMT, dtype="float64")
    values = json.loads(json.dumps(RECIPE.model_dump(mode="json")))
    assert SurrogateRecipe(**values) == RECIPE
