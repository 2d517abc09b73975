"""A relabeled store holds the same frames, and what the potential predicts for them."""

import numpy as np
import pytest
from typer.testing import CliRunner

from mlip.cli.data import app
from mlip.data import Store
from mlip.errors import MlipError
from mlip.evaluation.relabel import relabel
from mlip.models import parse_config
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from tests.emt_world import emt_frames, write_store


@pytest.fixture(scope="module")
def potential() -> Potential:
    """Random parameters; it does not know silver."""
    config = parse_config({"model": "m3gnet", "cutoff": 3.6, "three_body_cutoff": 3.2, "units": 4, "n_blocks": 1})
    energies = {"Cu": -3.0, "Al": -2.0, "Ni": -1.0}
    return Potential(config, init_parameters(config), PotentialMetadata(reference_energies=energies, scale=0.1))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("relabel") / "store.h5", emt_frames(12, seed=3), n_validation=2)


def test_frames_and_splits_stay_and_labels_are_predictions(potential, store, tmp_path):
    potential.save(tmp_path / "p.safetensors")
    result = CliRunner().invoke(
        app, ["relabel", str(tmp_path / "p.safetensors"), str(store), "--out", str(tmp_path / "new.h5")]
    )
    assert result.exit_code == 0, result.output
    with Store(store) as old, Store(tmp_path / "new.h5") as new:
        before = {material.id: material for material in old.materials()}
        kept = list(new.materials())
        without_silver = [m for m in before.values() if "Ag" not in m.formula]
        assert 0 < len(kept) == len(without_silver) < len(before)
        assert f"{len(before) - len(kept)} materials of other elements left out" in result.output
        for material in kept:
            assert material.split == before[material.id].split
            frame, original = new.frame(material.frames[0]), old.frame(before[material.id].frames[0])
            np.testing.assert_array_equal(frame.positions, original.positions)
            (predicted,) = potential.predict([original])
            assert frame.energy == pytest.approx(predicted["energy"], abs=1e-5) != original.energy
            np.testing.assert_allclose(frame.forces, predicted["forces"], atol=1e-5)
            np.testing.assert_allclose(frame.stress, predicted["stress"], atol=1e-5)


@pytest.mark.parametrize(
    ("of_potential", "expected"), [("SCAN", "SCAN"), ("unknown", "unknown"), ("the old one | SCAN", None)]
)
def test_labels_are_of_the_potentials_functional(potential, store, tmp_path, of_potential, expected):
    """A material of one of several functionals of the potential keeps the name of that one."""
    with Store(store) as opened:
        old = next(opened.materials()).functional
        if expected is None:
            of_potential, expected = f"{old} | SCAN", old
        metadata = potential.metadata.model_copy(update={"functional": of_potential})
        relabel(Potential(potential.config, potential.params, metadata), opened, tmp_path / "new.h5")
    with Store(tmp_path / "new.h5") as new:
        assert {material.functional for material in new.materials()} == {expected} != {None}


def test_the_store_that_is_read_is_not_replaced(potential, store):
    with Store(store) as opened, pytest.raises(MlipError, match="would replace the store that is read"):
        relabel(potential, opened, store)


def test_a_store_without_a_known_material_is_refused_and_nothing_written(potential, tmp_path):
    silver = write_store(tmp_path / "silver.h5", emt_frames(3, seed=1, symbols=("Ag",)), n_validation=1)
    with Store(silver) as opened, pytest.raises(MlipError, match="no material of elements that the potential knows"):
        relabel(potential, opened, tmp_path / "none.h5")
    assert not (tmp_path / "none.h5").exists()
