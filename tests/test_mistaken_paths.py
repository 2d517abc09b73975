"""What is given as a potential and is none is called by its name, with the command to type."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import mlip
from mlip.cli.label import load_calculator
from mlip.errors import MlipError
from mlip.potential import open_potential
from mlip.property_model import PropertyModel, is_property_model

DOORS = (mlip.load, open_potential, PropertyModel.load, is_property_model, mlip.MLIPCalculator)


def refusal(path, door=mlip.load) -> str:
    with pytest.raises(MlipError) as error:
        door(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_tells_of_a_url(door):
    url = "https://example.org/models/p.safetensors"
    assert refusal(url, door) == f"{url}: is a URL, not a file (fetch it: curl -LO {url}; then give the file)"


@pytest.mark.parametrize("name", ["p.pt", "p.pth", "p.model", "p.ckpt", "p.nqx", "m_weights.npz"])
def test_checkpoints_of_other_codes_are_to_be_converted(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04 and more")
    assert f"mlip convert {path} " in refusal(path)


def test_a_model_of_equinox_is_called_one(tmp_path):
    path = tmp_path / "model.eqx"
    path.write_bytes(b'{"cutoff": 6.0}\n\x00\x01')
    assert "is a model of equinox" in refusal(path)
    assert "mlip convert SOURCE OUT.safetensors" in refusal(path)


def test_a_checkpoint_folder_is_to_be_converted(tmp_path):
    (tmp_path / "m3gnet.json").write_text("{}")
    assert f"is a checkpoint folder of another code (convert it: mlip convert {tmp_path}" in refusal(tmp_path)


def test_the_folder_of_a_run_names_its_potential_or_how_to_export_one(tmp_path):
    step = tmp_path / "run" / "checkpoints" / "20"
    step.mkdir(parents=True)
    (tmp_path / "run" / "recipe.yaml").write_text("train: {}\n")
    for path in (tmp_path / "run", step.parent, step):
        assert "export its best state: mlip export" in refusal(path)
    exported = tmp_path / "run" / "potential.safetensors"
    save_file({"w": np.ones(1)}, exported)
    assert f"give {exported}" in refusal(tmp_path / "run")


def test_other_things_are_called_by_their_names_too(tmp_path):
    for name, expected in (
        ("s.h5", "mlip data info"),
        ("s.hdf5", "mlip data info"),
        ("r.yaml", "mlip train"),
    ):
        (tmp_path / name).write_text("x")
        assert expected in refusal(tmp_path / name)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.csv").write_text("")
    assert "is the folder of a sweep" in refusal(tmp_path / "sweep")
    (tmp_path / "empty").mkdir()
    assert "is a folder, not a potential" in refusal(tmp_path / "empty")
    assert "no such potential" in refusal(tmp_path / "absent.safetensors")
    assert "no such potential" in refusal(tmp_path / "absent.pt")


@pytest.mark.parametrize("name", ["https://example.org/p.safetensors", "absent.safetensors"])
def test_labeling_takes_what_looks_like_a_potential_for_one(name):
    message = refusal(name, load_calculator)
    assert "is a URL" in message or "no such potential" in message


def test_labeling_by_a_run_folder_names_its_potential(tmp_path):
    (tmp_path / "recipe.yaml").write_text("")
    assert "is the folder of a training run" in refusal(tmp_path, lambda path: load_calculator(str(path)))


def test_a_good_file_is_read_whatever_it_is_called(tmp_path):
    from mlip.models.m3gnet import M3GNetConfig
    from mlip.network import init_parameters
    from mlip.potential import Potential, PotentialMetadata

    config = M3GNetConfig(units=8)
    metadata = PotentialMetadata(reference_energies={"Cu": -3.0})
    path = Potential(config, init_parameters(config), metadata).save(tmp_path / "mine.model")
    assert mlip.load(path).metadata == metadata
