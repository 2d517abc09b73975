"""Errors of a property model stand beside those of the best constant, and nothing is left out in silence."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.data.properties import property_of
from mlip.errors import MlipError
from mlip.evaluation.property_errors import evaluate_property
from mlip.property_model import PropertyModel

CRYSTALS = {"copper": bulk("Cu"), "rock salt": bulk("NaCl", "rocksalt", a=5.6), "silicon": bulk("Si")}
LABELS = {"copper": 0.0, "rock salt": 0.1, "silicon": 0.5}


def trajectory(name: str, atoms: Atoms, **properties: float) -> Trajectory:
    frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc)
    return Trajectory(name, [frame], "PBE", 3, properties)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("labeled") / "store.h5"
    with StoreWriter(path) as writer:
        for name, atoms in CRYSTALS.items():
            writer.add(trajectory(name, atoms, e_above_hull=LABELS[name], volume=atoms.get_volume()), "test")
        writer.add(trajectory("unstable", bulk("Cu", "bcc", a=2.5), e_above_hull=9.0), "test")
        writer.add(trajectory("unlabeled", bulk("Al")), "test")
        writer.add(trajectory("elsewhere", bulk("Ni"), e_above_hull=0.0), "train")
        for symbol in ("Lr", "Rf"):
            cube = Atoms(symbol, cell=[4] * 3, pbc=True)
            writer.add(trajectory(symbol, cube, e_above_hull=0.0), "val")
    with Store(path) as opened:
        yield opened


def test_errors_are_those_of_predict_and_the_constant_is_the_median(tiny_cgat, store):
    found = evaluate_property(tiny_cgat, store, "test", largest=8.0)
    predicted = tiny_cgat.predict(list(CRYSTALS.values()))
    labels = np.array(list(LABELS.values()))
    assert found.ids == list(LABELS)
    assert found.n_materials == 3
    np.testing.assert_allclose(found.predicted, predicted, rtol=1e-4)  # positions of a store are float32
    assert found.mae == pytest.approx(np.abs(predicted - labels).mean(), rel=1e-4)
    assert found.mae_of_median == pytest.approx((0.1 + 0.0 + 0.4) / 3)
    assert found.of_elements["Na"] == (1, pytest.approx(abs(predicted[1] - 0.1), rel=1e-3))


def test_labels_of_another_functional_are_refused_unless_allowed(tiny_cgat, store):
    metadata = tiny_cgat.metadata.model_copy(update={"functional": "PBEsol"})
    model = PropertyModel(tiny_cgat.config, tiny_cgat.params, metadata)
    with pytest.raises(MlipError, match="the model is of PBEsol, the labels of PBE"):
        evaluate_property(model, store, "test")
    assert "as allowed" in evaluate_property(model, store, "test", allow_functional_mismatch=True).functional_note


def test_a_material_that_lost_its_relaxed_structure_is_left_out(tiny_cgat, tmp_path):
    path = tmp_path / "headless.h5"
    with StoreWriter(path) as writer:
        writer.add(trajectory("whole", bulk("Cu"), e_above_hull=0.0), "test")
        writer.add(trajectory("headless", bulk("Cu", a=5.0), e_above_hull=0.0, path_end_removed=1.0), "test")
    with Store(path) as opened:
        found = evaluate_property(tiny_cgat, opened, "test")
    assert found.ids == ["whole"]
    assert found.left_out == {"their relaxed structure was removed (an outlier, or without labels)": 1}


def test_what_the_model_does_not_know_is_left_out_and_counted(tiny_cgat, store):
    found = evaluate_property(tiny_cgat, store, "val")
    assert found.ids == ["Lr"]
    assert found.left_out == {"the model does not know Rf": 1}


def test_a_volume_is_learned_for_an_atom(store):
    volumes = {material.id: property_of(store, material, "volume") for material in store.materials()}
    assert volumes["rock salt"] == pytest.approx(5.6**3 / 8)
    assert volumes["unlabeled"] is None
