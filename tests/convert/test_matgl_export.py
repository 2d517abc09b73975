"""A potential of matgl's layout goes to matgl and comes back the same; others are refused with the reason."""

import json
from dataclasses import replace

import ase.build
import numpy as np
import pytest
from matgl_world import assert_same_parameters, matgl_potential

from mlip.convert import convert, export
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig


def mistake(potential, folder, to="matgl") -> str:
    with pytest.raises(MlipError) as error:
        export(potential, to, folder)
    line = str(error.value)
    assert "\n" not in line
    return line


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs PyTorch (the extra `convert`)")


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("dimensions", [{}, {"max_n": 4, "max_l": 4, "n_blocks": 2}])
def test_there_and_back_is_the_same_bit_for_bit(torch, tmp_path, smooth, dimensions):
    potential = matgl_potential(smooth=smooth, **dimensions)
    again = convert(export(potential, "matgl", tmp_path / "model"))
    assert again.config == potential.config
    assert_same_parameters(again, potential)
    assert again.metadata.reference_energies == potential.metadata.reference_energies
    assert (again.metadata.scale, again.metadata.functional) == (2.0, "PBE")


def test_a_published_model_survives_the_round_trip(torch, shared, tmp_path):
    published = convert(shared / "goldens/m3gnet_matgl/M3GNet-MP-2021.2.8-PES_weights.npz", aggregate="center")
    again = convert(export(published, "matgl", tmp_path / "model"))
    assert again.config == published.config
    assert_same_parameters(again, published)
    assert again.metadata.reference_energies == published.metadata.reference_energies


def test_a_shift_per_atom_goes_into_the_reference_energies(torch, tmp_path):
    potential = matgl_potential().with_metadata(shift=-0.5)
    again = convert(export(potential, "matgl", tmp_path / "model"))
    assert again.metadata.reference_energies == {"H": -3.75, "O": -8.0, "Si": -5.5, "Cu": -3.625}
    assert again.metadata.shift == 0


def test_the_files_hold_plain_values_only(torch, tmp_path):
    folder = export(matgl_potential(), "matgl", tmp_path / "model")
    assert {file.name for file in folder.iterdir()} == {"model.json", "model.pt", "state.pt"}
    arguments = torch.load(folder / "model.pt", weights_only=True)
    assert json.loads((folder / "model.json").read_text())["kwargs"] == arguments
    assert arguments["model"]["init_args"]["element_types"] == ["H", "O", "Si", "Cu"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hidden_layers": 1}, "two hidden layers"),
        ({"bond_basis": "bessel"}, "both its bases are smooth, or neither is"),
        ({"three_body_basis": "bessel"}, "both its bases are smooth, or neither is"),
        ({"bond_embedding_bias": False}, "its bond embedding has a bias"),
        ({"atom_weight_swish": True}, "its atom weights have no swish"),
        ({"aggregate": "neighbor"}, "would give other energies without a warning"),
    ],
)
def test_what_matgl_cannot_represent_is_refused_with_the_reason(tmp_path, changes, why):
    line = mistake(matgl_potential(**changes), tmp_path / "model")
    assert why in line
    assert "recipes/m3gnet_matgl.yaml" in line
    assert list(tmp_path.iterdir()) == []


def test_the_original_network_is_refused(tmp_path):
    original = replace(matgl_potential(), config=M3GNetConfig())
    assert "matgl's M3GNet cannot be this network" in mistake(original, tmp_path / "model")


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/precious.txt").write_text("mine")
    assert "exists and is not an empty folder" in mistake(matgl_potential(), tmp_path / "model")
    assert "exists and is not an empty folder" in mistake(matgl_potential(), tmp_path / "model/precious.txt")
    assert (tmp_path / "model/precious.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(torch, tmp_path):
    (tmp_path / "model").mkdir()
    assert len(list(export(matgl_potential(), "matgl", tmp_path / "model").iterdir())) == 3


def test_a_failure_leaves_nothing_behind(torch, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        export(matgl_potential(), "matgl", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_another_format_is_refused(tmp_path):
    line = mistake(matgl_potential(), tmp_path / "model", to="lammps")
    assert "there is no format 'lammps' (known: matgl, mace, nequix)" in line


def test_matgl_itself_gives_the_same_numbers(torch, tmp_path):
    """All goldens, more networks and both precisions: benchmarks/matgl_parity.py."""
    matgl = pytest.importorskip("matgl", reason="needs matgl, the peer", exc_type=ImportError)
    from matgl.ext.ase import PESCalculator

    potential = matgl_potential(n_blocks=2)
    crystal = ase.build.bulk("CuO", "zincblende", a=4.4, cubic=True)
    crystal.rattle(0.1, seed=1)
    crystal.calc = PESCalculator(
        matgl.load_model(export(potential, "matgl", tmp_path / "model")), stress_unit="eV/A3", use_voigt=True
    )
    ours = potential.predict([crystal])[0]
    assert crystal.get_potential_energy() / len(crystal) == pytest.approx(ours["energy"] / len(crystal), abs=1e-5)
    np.testing.assert_allclose(crystal.get_forces(), ours["forces"], atol=1e-4)
    np.testing.assert_allclose(crystal.get_stress(), ours["stress"], atol=1e-5)
