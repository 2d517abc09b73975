"""A split's errors frame by frame, on a sample that reaches over all of it."""

import numpy as np
import pytest

from mlip.data import Store
from mlip.evaluation.evaluate import evaluate, store_frames
from mlip.evaluation.split_errors import evaluate_split, evenly_chosen
from mlip.models import parse_config
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from tests.emt_world import emt_frames, write_store


@pytest.fixture(scope="module")
def potential() -> Potential:
    config = parse_config({"model": "m3gnet", "cutoff": 3.6, "three_body_cutoff": 3.2, "units": 4, "n_blocks": 1})
    metadata = PotentialMetadata(reference_energies={"Cu": -3.0, "Al": -2.0, "Ni": -1.0, "Ag": -2.0}, scale=0.1)
    return Potential(config, init_parameters(config), metadata)


def test_frames_keep_their_errors_through_the_sorting_by_size(potential, tmp_path):
    with Store(write_store(tmp_path / "store.h5", emt_frames(20, seed=1), n_validation=6)) as store:
        split = evaluate_split(potential, store, "val", at_most=100)
        errors = evaluate(potential, store_frames(store, "val"))
    assert split.errors.rows == errors.rows
    (prediction,) = potential.predict([split.items[3].frame])
    wrong_by = np.linalg.norm(prediction["forces"] - split.items[3].frame.forces, axis=1).max()
    assert split.force_errors[3] == pytest.approx(wrong_by, rel=1e-4)  # float32, another batch


def test_a_sample_reaches_over_the_whole_split():
    assert evenly_chosen(np.arange(10, 20), 4).tolist() == [10, 13, 16, 19]
    assert evenly_chosen(np.arange(3), 4).tolist() == [0, 1, 2]
