"""`datasets/default/bundle.py` makes a trained potential one that comes with mlip."""

import importlib.util
from collections import Counter

import pytest
import yaml

import mlip
from mlip.data import Store
from mlip.errors import MlipError
from mlip.pretrained.registry import is_known, read_entry
from tests.bundled_potential import random_potential
from tests.conftest import REPOSITORY
from tests.emt_world import emt_frames, write_store

DEFAULT = REPOSITORY / "datasets" / "default"
HOME = "/somebody/s/folder"


@pytest.fixture(scope="module")
def bundle():
    spec = importlib.util.spec_from_file_location("bundle", DEFAULT / "bundle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trained(tmp_path):
    provenance = {"recipe": {"data": {"store": f"{HOME}/store.h5"}}, "step": 7}
    potential = random_potential(("Cu", "Al", "Na")).with_metadata(provenance=provenance)
    return potential.save(tmp_path / "potential.safetensors")


@pytest.fixture
def card(tmp_path):
    values = yaml.safe_load((DEFAULT / "card.yaml").read_text(encoding="utf-8"))
    values["errors"] = [{"data": "crystals", "materials": 10, "energy": 50}]
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def labeled(tmp_path):
    return write_store(tmp_path / "labeled.h5", emt_frames(12, seed=0, symbols=("Cu", "Al")), n_validation=4)


def test_entry_and_weights_belong_together_and_tell_nothing_of_our_folders(bundle, trained, card, labeled, tmp_path):
    entry = read_entry(bundle.bundle(trained, labeled, card, tmp_path / "package"))
    weights = tmp_path / "package" / "weights" / entry.source.files[0].name
    assert weights.stat().st_size == entry.bytes
    assert HOME.encode() not in weights.read_bytes()
    potential = mlip.load(weights)
    assert potential.metadata.provenance["name"] == entry.name == weights.stem
    assert potential.fingerprint == mlip.load(trained).fingerprint
    assert (entry.elements, entry.parameters, entry.functional) == (3, potential.n_parameters, "PBE")
    assert (entry.state, entry.card.teacher) == ("in mlip", "nequix-oam-1")


def test_frames_are_those_of_training_alone(bundle, trained, card, labeled, tmp_path):
    entry = read_entry(bundle.bundle(trained, labeled, card, tmp_path / "package"))
    counts: Counter[str] = Counter()
    with Store(labeled) as store:
        for material in store.materials():
            if material.split == "train":
                for k in material.frames:
                    counts.update(set(store.frame(k).numbers.tolist()))
    assert entry.card.frames_by_element == {"Na": 0, "Al": counts[13], "Cu": counts[29]}
    assert entry.card.rare_elements == ["Na", "Al", "Cu"]


def test_nothing_is_bundled_whose_errors_were_not_measured(bundle, trained, labeled, tmp_path):
    card = tmp_path / "unmeasured.yaml"
    values = yaml.safe_load((DEFAULT / "card.yaml").read_text(encoding="utf-8")) | {"errors": []}
    card.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(MlipError, match="no errors were measured"):
        bundle.bundle(trained, labeled, card, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_the_teacher_of_the_card_is_a_potential_that_is_known():
    values = yaml.safe_load((DEFAULT / "card.yaml").read_text(encoding="utf-8"))
    assert is_known(values["card"]["teacher"])
