"""MatterSim's checkpoints become potentials that give its own code's energies, forces and stresses."""

import sys
import zipfile

import numpy as np
import pytest
from mattersim_world import DIMENSIONS, network, save, structures, their_results

from mlip.convert import convert
from mlip.errors import MlipError
from mlip.potential import Potential


@pytest.fixture
def mattersim():
    return pytest.importorskip("mattersim.forcefield", reason="needs mattersim", exc_type=ImportError)


@pytest.fixture
def pickle_of_mattersim(tmp_path):
    """It would import a class, no more."""
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        name = b"graph_conv.0.three_body.atom_mlp.linear.weight"
        archive.writestr("archive/data.pkl", b"\x80\x02cos\nsystem\n" + name)
    return path


@pytest.mark.parametrize("size", DIMENSIONS)
def test_energies_forces_and_stresses_are_those_of_its_own_code_in_float64(mattersim, tmp_path, size):
    model = network(**DIMENSIONS[size])
    potential = convert(save(model, tmp_path / "model.pth"))
    found = potential.predict(structures(), dtype="float64")
    for atoms, ours in zip(structures(), found, strict=True):
        theirs, name = their_results(model, atoms), str(atoms.symbols)
        assert abs(ours["energy"] - theirs["energy"]) / len(atoms) < 1e-8, name
        np.testing.assert_allclose(ours["forces"], theirs["forces"], atol=1e-7, err_msg=name)
        sign = np.sign(np.linalg.det(atoms.cell.array))  # its stress of a left-handed cell has the wrong sign
        np.testing.assert_allclose(ours["stress"], sign * theirs["stress"], atol=1e-7, err_msg=name)


def test_in_float32_what_rounding_leaves_is_small(mattersim, tmp_path):
    model = network(**DIMENSIONS["1M"])
    potential = convert(save(model, tmp_path / "model.pth"))
    for atoms, ours in zip(structures(), potential.predict(structures()), strict=True):
        theirs = their_results(model, atoms)
        assert abs(ours["energy"] - theirs["energy"]) / len(atoms) < 2e-5
        np.testing.assert_allclose(ours["forces"], theirs["forces"], atol=2e-4)


def test_a_saved_potential_is_the_same_and_other_dimensions_are_read(mattersim, tmp_path):
    model = network(num_blocks=1, units=8, cutoff=4.5, threebody_cutoff=3.5, max_z=30)
    potential = convert(save(model, tmp_path / "model.pth"), functional="PBE")
    again = Potential.load(potential.save(tmp_path / "ours.safetensors"))
    assert again.config == potential.config
    assert (again.cutoff, again.config.three_body_cutoff, len(again.elements)) == (4.5, 3.5, 30)
    assert again.functional == "PBE"
    atoms = structures()[0]
    (ours,) = again.predict([atoms], dtype="float64")
    assert abs(ours["energy"] - their_results(model, atoms)["energy"]) / len(atoms) < 1e-8


def test_one_scale_of_all_elements_is_the_potentials(mattersim, tmp_path):
    model = network(num_blocks=1, units=8)
    model.normalizer.scale.fill_(1.5)
    model.normalizer.shift[20:].zero_()
    potential = convert(save(model, tmp_path / "model.pth"))
    assert potential.config.element_scales is None
    assert potential.metadata.scale == 1.5


def test_elements_without_scale_and_shift_were_not_trained(mattersim, tmp_path):
    model = network(num_blocks=1, units=8)
    model.normalizer.scale[85:90] = model.normalizer.shift[85:90] = 0
    potential = convert(save(model, tmp_path / "model.pth"))
    assert not {"At", "Rn", "Fr", "Ra", "Ac"} & set(potential.elements)
    assert len(potential.elements) == 89


def test_another_network_is_refused_by_what_it_has(mattersim, tmp_path):
    model = network(num_blocks=1, units=8)
    model.sbf.coef[1, 0, 0] = 2.0
    with pytest.raises(MlipError, match=r"sbf.coef is not what the published models have"):
        convert(save(model, tmp_path / "model.pth"))


def test_what_can_run_code_is_not_loaded_unless_it_is_trusted(pickle_of_mattersim):
    pytest.importorskip("torch", reason="needs PyTorch (the extra `convert`)")
    with pytest.raises(MlipError, match=r"can run any code.*--trust-pickle if you trust its source"):
        convert(pickle_of_mattersim)


def test_without_pytorch_the_extra_is_named(pickle_of_mattersim, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MlipError, match="with PyTorch, which is not installed"):
        convert(pickle_of_mattersim)


def test_a_damaged_checkpoint_is_one_line(pickle_of_mattersim):
    content = bytearray(pickle_of_mattersim.read_bytes())
    content[content.index(b"system")] ^= 1
    pickle_of_mattersim.write_bytes(content)
    with pytest.raises(MlipError, match=r"wrong checksum|is no checkpoint"):
        convert(pickle_of_mattersim)
