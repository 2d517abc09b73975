"""A property model: the same prediction from crystals, in batches of any size, and from prototypes; its file."""

import ase.build
import numpy as np
import pytest

import mlip
from mlip.errors import MlipError
from mlip.graph.prototype import Prototype
from mlip.property_model import PropertyModel

ELEMENTS = ["Na", "Cl", "K", "Br", "Si"]


@pytest.fixture(scope="module")
def model(tiny_cgat) -> PropertyModel:
    changed = tiny_cgat.metadata.model_copy(update={"elements": ELEMENTS, "mean": 0.05, "std": 0.12})
    return PropertyModel(tiny_cgat.config, tiny_cgat.params, changed)


def salts():
    return [
        ase.build.bulk(name, structure, a=a)
        for name, structure, a in (("NaCl", "rocksalt", 5.6), ("KBr", "cesiumchloride", 4.1), ("Si", "diamond", 5.4))
    ]


def test_one_by_one_is_as_good_as_together(model):
    together = model.predict(salts(), dtype="float64")
    alone = [model.predict([crystal], dtype="float64")[0] for crystal in salts()]
    np.testing.assert_allclose(alone, together, atol=1e-12)
    assert len(np.unique(together)) == 3
    assert model.predict([]).shape == (0,)


def test_a_prototype_with_other_elements_is_that_crystal(model):
    crystals = [ase.build.bulk(name, "rocksalt", a=5.6) for name in ("NaCl", "KBr", "KCl")]
    prototype = Prototype.of(crystals[0])
    assignments = np.array([crystal.numbers for crystal in crystals])
    found = model.predict_prototype(prototype, assignments, dtype="float64", batch_size=2)
    np.testing.assert_allclose(found, model.predict(crystals, dtype="float64"), atol=1e-12)


def test_one_element_on_all_sites_is_a_pure_element(model):
    crystal = ase.build.bulk("NaCl", "cesiumchloride", a=4.0)
    crystal.rattle(0.2, seed=1)
    found = model.predict_prototype(Prototype.of(crystal), np.array([[14, 14]]), dtype="float64")
    crystal.numbers[:] = 14
    # Sites stay apart in the prototype's graph; the crystal's own may merge them. Both are exact.
    np.testing.assert_allclose(found, model.predict([crystal], dtype="float64"), atol=1e-12)


def test_volume_and_input_do_not_matter_and_do_not_change(model):
    crystal = ase.build.bulk("NaCl", "rocksalt", a=5.6)
    larger = crystal.copy()
    larger.set_cell(1.1 * crystal.cell.array, scale_atoms=True)
    before = crystal.positions.copy()
    one, other = model.predict([crystal, larger])
    assert one == pytest.approx(other, abs=1e-6)
    np.testing.assert_array_equal(crystal.positions, before)


def test_saved_and_loaded_it_predicts_the_same(model, tmp_path):
    loaded = PropertyModel.load(model.save(tmp_path / "cgat.safetensors"))
    assert loaded.metadata == model.metadata
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.predict(salts()), model.predict(salts()))


def test_a_property_model_is_no_potential_and_is_told_so(model, tmp_path):
    path = model.save(tmp_path / "cgat.safetensors")
    with pytest.raises(MlipError, match="predicts e_above_hull: it is no potential"):
        mlip.load(path)


def test_an_unknown_element_is_named_with_its_structure(model):
    with pytest.raises(MlipError, match="structure 1: the model does not know Cu"):
        model.predict([salts()[0], ase.build.bulk("Cu")])
    with pytest.raises(MlipError, match="does not know Cu"):
        model.predict_prototype(Prototype.of(salts()[0]), np.array([[11, 29]]))
