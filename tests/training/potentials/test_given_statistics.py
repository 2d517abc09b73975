"""Energy scales that a recipe gives take the place of measured ones, for each head its own."""

import numpy as np
import pytest

from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.training.potentials.potential_dataset import open_dataset
from mlip.training.recipe import StatisticsRecipe

ENERGIES = {"Cu": -1.0, "Al": -2.0, "Ni": -3.0, "Ag": -4.0, "Xe": -5.0}


def test_given_values_are_used_for_the_elements_of_the_training_frames(emt_store):
    with Store(emt_store) as store:
        data = open_dataset(store, given=StatisticsRecipe(reference_energies=ENERGIES, scale=0.7))
        head = data.heads["default"]
        assert head.scale == 0.7
        assert head.reference_energies == {symbol: ENERGIES[symbol] for symbol in data.statistics["default"].elements}
        assert "Xe" not in data.elements
        assert "energy scale: as data.statistics gives it" in data.describe()


def test_frames_of_absurd_forces_are_left_out_of_the_scale_and_named(tmp_path):
    pull = np.array([[1.0, 1, 1], [-1, -1, -1]])
    with StoreWriter(tmp_path / "s.h5") as writer:
        for k in range(20):
            size = 1e5 if k == 3 else 0.5
            positions = np.array([[0.0, 0, 0], [0, 0, 2.5]])
            frame = Frame(
                np.array([29, 29], np.int16), positions, np.eye(3) * 5, np.ones(3, bool), -7.0, size * pull, np.zeros(6)
            )
            writer.add(Trajectory(f"m{k}", [frame], "PBE", 3), "train")
    with Store(tmp_path / "s.h5") as store:
        data = open_dataset(store)
    assert data.heads["default"].scale == 0.5
    assert "warning: absurd forces in frame 3 (m3, 100,000 eV/Å): left out of the energy scale" in data.describe()


def test_what_is_not_given_is_measured(emt_store):
    with Store(emt_store) as store:
        measured = open_dataset(store).heads["default"]
        scale_given = open_dataset(store, given=StatisticsRecipe(scale=0.7)).heads["default"]
        energies_given = open_dataset(store, given=StatisticsRecipe(reference_energies=ENERGIES)).heads["default"]
    assert scale_given.reference_energies == measured.reference_energies
    assert energies_given.scale == measured.scale != 0.7


def test_a_head_has_its_own_or_those_of_all():
    given = StatisticsRecipe(scale=0.5, of_functional={"PBE": {"scale": 2.0}})
    assert given.of_head("PBE").scale == 2.0
    assert given.of_head("SCAN").scale == 0.5


def test_an_element_that_is_lacking_and_a_head_that_is_not_there_are_named(emt_store):
    with Store(emt_store) as store:
        with pytest.raises(MlipError, match="lacks Al, Ni, Ag of the training frames"):
            open_dataset(store, given=StatisticsRecipe(reference_energies={"Cu": -1.0}))
        with pytest.raises(MlipError, match="names PBE, the model has the heads default"):
            open_dataset(store, given=StatisticsRecipe(of_functional={"PBE": {"scale": 2.0}}))
