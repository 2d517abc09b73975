"""matgl's models become potentials: the right direction, said aloud; nothing executed; nothing half understood."""

import json
import pickle
import sys
import zipfile

import ase.build
import jax
import numpy as np
import pytest
from matgl_world import assert_same_parameters, description, matgl_potential, random_parameters, write_export

from mlip.convert import convert
from mlip.convert.layers import layers_from_parameters
from mlip.convert.matgl import EMBEDDING, layer_name
from mlip.convert.matgl_files import _release
from mlip.errors import MlipError
from mlip.models.m3gnet_property import M3GNetPropertyConfig
from mlip.potential import Potential

PUBLISHED = ["M3GNet-MP-2021.2.8-PES", "M3GNet-MatPES-PBE-v2025.1-PES"]


@pytest.fixture
def model_folder(tmp_path):
    """A folder whose model.json is sound; state.pt is an empty archive."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(description(matgl_potential())))
    with zipfile.ZipFile(folder / "state.pt", "w"):
        pass
    return folder


def change_json(folder, *keys, to) -> None:
    """Sets one value deep in model.json."""
    content = json.loads((folder / "model.json").read_text())
    part = content
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = to
    (folder / "model.json").write_text(json.dumps(content))


def mistake(source, **options) -> str:
    with pytest.raises(MlipError) as error:
        convert(source, **options)
    line = str(error.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("dimensions", [{}, {"max_n": 4, "max_l": 4, "n_blocks": 2}, {"hidden_units": 6}])
def test_any_size_comes_back_from_plain_arrays_bit_for_bit(tmp_path, smooth, dimensions):
    potential = matgl_potential(smooth=smooth, **dimensions)
    again = convert(write_export(tmp_path, potential), aggregate="center")
    assert again.config == potential.config
    assert_same_parameters(again, potential)
    assert_same_parameters(Potential.load(again.save(tmp_path / "ours.safetensors")), potential)
    assert again.metadata.reference_energies == potential.metadata.reference_energies
    assert again.metadata.scale == potential.metadata.scale


@pytest.mark.parametrize(
    ("of_model", "of_potential", "options", "direction"),
    [
        ("matgl.models._m3gnet", "matgl.apps.pes", {}, "neighbor"),  # up to 1.3
        ("matgl.models._m3gnet", "matgl.apps._pes_dgl", {}, "neighbor"),  # 2.0 to 2.2
        ("matgl.models._m3gnet_pyg", "matgl.apps._pes_pyg", {}, "center"),  # 3.0
        ("matgl.models._m3gnet_dgl", "matgl.apps._pes_dgl", {}, "center"),  # 3.0
        ("matgl.models._m3gnet", "matgl.apps._pes", {"compile_model": False}, "center"),  # 4.0
        ("matgl.models._m3gnet", "matgl.apps.pes", {"compile_model": False}, "center"),  # 4.1
        ("another.fork", "matgl.apps.pes", {}, None),
    ],
)
def test_the_release_that_saved_a_model_tells_the_direction(of_model, of_potential, options, direction):
    found, because = _release({"@module": of_potential}, options | {"model": {"@module": of_model}})
    assert found == direction
    assert of_model in because


def test_a_decision_is_said_with_its_reason(tmp_path, shared):
    folder = shared / "goldens/m3gnet_matgl"
    decided = convert(folder / "M3GNet-MatPES-r2SCAN-v2025.1-PES_weights.npz")
    assert decided.config.aggregate == "neighbor"
    assert decided.metadata.functional == "r2SCAN"
    notes = decided.metadata.provenance["notes"]
    assert any("neighbor" in note and "matgl 2 or older" in note for note in notes)
    assert any("three-body" in note for note in notes)
    told = convert(write_export(tmp_path, matgl_potential()), aggregate="center")
    assert "as asked for" in told.metadata.provenance["notes"][0]


def test_weights_of_unknown_origin_need_to_be_told_the_direction(tmp_path):
    source = write_export(tmp_path, matgl_potential())
    line = mistake(source)
    assert "does not tell to which end of a bond messages are added" in line
    assert "--aggregate neighbor for weights trained with matgl < 3" in line


def test_the_functional_is_that_of_the_name_unless_told(tmp_path):
    source = write_export(tmp_path, matgl_potential(), name="M3GNet-Own-PBEsol-v1")
    assert convert(source, aggregate="center").metadata.functional == "PBEsol"
    assert convert(source, aggregate="center", functional="SCAN").metadata.functional == "SCAN"
    source = write_export(tmp_path, matgl_potential(), name="mine")
    assert convert(source, aggregate="center").metadata.functional == "unknown"


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("data_mean", lambda mean: mean + 1.0, "data_mean = 1.0, an energy per structure, is not implemented"),
        ("data_std", lambda std: np.ones(3), "data_std has 3 values"),
        ("element_refs.property_offset", lambda refs: np.stack([refs, refs]), "element_refs of shape (2, 4)"),
        ("model.embedding.layer_node_embedding.weight", lambda rows: rows[1:], "for 4 elements"),
        ("model.graph_layers.0.conv.edge_weight_func.weight", lambda w: w[:, :2], "bond_weight.kernel"),
        ("model.graph_layers.0.conv.node_update_func.gates.0.weight", lambda w: w[:2], "core"),
        ("model.final_layer.gated.layers.2.bias", None, "readout.core_1.bias"),
        ("model.final_layer.gated.layers.2.weight", None, "model.final_layer.gated.layers.2.weight is missing"),
        ("model.another.weight", lambda _: np.ones(2), "have no place in the model, such as model.another.weight"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, name, change, expected):
    def altered(state):
        rest = {key: value for key, value in state.items() if key != name}
        return rest | {name: change(state.get(name))} if change else rest

    source = write_export(tmp_path, matgl_potential(), alter=altered)
    assert expected in mistake(source, aggregate="center")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("include_state", True),
        ("use_phi", True),
        ("rbf_type", "Gaussian"),
        ("activation_type", "softplus2"),
        ("is_intensive", True),
        ("task_type", "classification"),
        ("ntargets", 2),
        ("field", "edge_feat"),
        ("dim_edge_embedding", 128),
    ],
)
def test_a_network_that_is_not_implemented_is_refused(model_folder, argument, value):
    change_json(model_folder, "kwargs", "model", "init_args", argument, to=value)
    assert f"{argument} = {value!r} is not implemented" in mistake(model_folder)


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        (("kwargs", "calc_repuls"), True, "calc_repuls = True is not implemented"),
        (("kwargs", "calc_charge"), True, "calc_charge = True is not implemented"),
        (("@class",), "TensorNet", "holds TensorNet where only Potential is implemented"),
        (("@class",), "M3GNet", "M3GNet of @model_version 3 is not implemented"),
        (("kwargs", "model", "@class"), "TensorNet", "holds TensorNet where only M3GNet is implemented"),
        (("kwargs", "model"), "a string", "where only M3GNet is implemented"),
        (("kwargs",), None, "where only Potential is implemented"),
        (("@model_version",), 2, "Potential of @model_version 2 is not implemented"),
        (("kwargs", "model", "@model_version"), 1, "M3GNet of @model_version 1 is not implemented"),
        (("kwargs", "model", "init_args"), {"units": 64}, "is not complete: element_types is missing"),
        (("kwargs", "model", "init_args", "element_types"), ["Xx"], "no list of elements"),
        (("kwargs", "model", "init_args", "element_types"), [["H"]], "no list of elements"),
        (("kwargs", "model", "init_args", "element_types"), ["H", "H"], "names an element twice"),
    ],
)
def test_another_object_is_refused(model_folder, keys, value, expected):
    change_json(model_folder, *keys, to=value)
    assert expected in mistake(model_folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\x00\xff"])
def test_a_description_that_is_none(model_folder, text):
    (model_folder / "model.json").write_text(text)
    assert "model.json" in mistake(model_folder)


@pytest.mark.parametrize("name", ["model.json", "state.pt"])
def test_a_missing_file_is_named(model_folder, name):
    (model_folder / name).unlink()
    assert name in mistake(model_folder)


def test_without_pytorch_the_way_to_it_is_told(model_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'alexandria-mlip[convert]'" in mistake(model_folder)


def test_an_old_pytorch_is_not_trusted(model_folder, monkeypatch):
    class Old:
        __version__ = "2.5.1+cu121"

    monkeypatch.setitem(sys.modules, "torch", Old())
    assert "PyTorch 2.6 or later, not 2.5.1" in mistake(model_folder)


class Evil:
    """A pickle of it creates the file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_in_place_of_tensors_is_refused_and_not_executed(model_folder, tmp_path):
    trace = tmp_path / "executed"
    (model_folder / "state.pt").write_bytes(pickle.dumps(Evil(trace)))
    assert "state.pt: is no undamaged archive" in mistake(model_folder)
    assert not trace.exists()


def test_a_pickle_among_the_tensors_is_refused_and_not_executed(model_folder, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch (the extra `convert`)")
    trace = tmp_path / "executed"
    torch.save({"weight": Evil(trace)}, model_folder / "state.pt")
    assert "state.pt: cannot be read as tensors alone" in mistake(model_folder)
    assert not trace.exists()


def test_tensors_of_another_kind_are_refused(model_folder):
    torch = pytest.importorskip("torch", reason="needs PyTorch (the extra `convert`)")
    for content in ({"weight": torch.zeros(2, dtype=torch.int8)}, {"weight": "text"}, torch.zeros(3)):
        torch.save(content, model_folder / "state.pt")
        assert "is no dictionary of tensors" in mistake(model_folder)


@pytest.mark.parametrize("smooth", [True, False])
def test_a_model_that_matgl_saves_gives_matgl_s_numbers(tmp_path, smooth):
    pytest.importorskip("matgl", reason="needs matgl, the peer", exc_type=ImportError)
    from matgl.apps.pes import Potential as TheirPotential
    from matgl.ext.ase import PESCalculator
    from matgl.models import M3GNet

    network = M3GNet(
        ("O", "Cu"), dim_node_embedding=8, dim_edge_embedding=8, units=6, is_intensive=False, max_n=2, use_smooth=smooth
    )
    theirs = TheirPotential(network.eval(), data_std=2.0, element_refs=np.array([-7.0, -3.0]))
    theirs.save(tmp_path / "saved")
    potential = convert(tmp_path / "saved")
    assert potential.config.aggregate == "center"
    crystal = ase.build.bulk("CuO", "zincblende", a=4.4, cubic=True)
    crystal.rattle(0.1, seed=1)
    crystal.calc = PESCalculator(theirs, stress_unit="eV/A3", use_voigt=True)
    ours = potential.predict([crystal])[0]
    assert crystal.get_potential_energy() / len(crystal) == pytest.approx(ours["energy"] / len(crystal), abs=1e-5)
    np.testing.assert_allclose(crystal.get_forces(), ours["forces"], atol=1e-4)
    np.testing.assert_allclose(crystal.get_stress(), ours["stress"], atol=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_equals_its_plain_arrays_bit_for_bit(shared, name):
    pytest.importorskip("torch", reason="needs PyTorch (the extra `convert`)")
    folder = shared / "goldens/m3gnet_matgl"
    of_model, of_arrays = convert(folder / "checkpoints" / name), convert(folder / f"{name}_weights.npz")
    assert of_model.config == of_arrays.config
    assert_same_parameters(of_model, of_arrays)
    assert of_model.metadata.reference_energies == of_arrays.metadata.reference_energies
    assert (of_model.metadata.scale, of_model.metadata.functional) == (of_arrays.metadata.scale, "PBE")


def test_a_truncated_or_altered_model_is_refused(shared, tmp_path):
    published = shared / "goldens/m3gnet_matgl/checkpoints" / PUBLISHED[0]
    (tmp_path / "model.json").write_bytes((published / "model.json").read_bytes())
    sound = (published / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(sound[: len(sound) // 2])
    assert "state.pt: is no undamaged archive" in mistake(tmp_path)
    altered = bytearray(sound)
    altered[len(sound) // 2] ^= 16  # in the middle of a tensor
    (tmp_path / "state.pt").write_bytes(altered)
    assert "wrong checksum, the file was altered" in mistake(tmp_path)


def property_model_folder(folder, version: int = 2, transformer: str = "Normalizer: Mean=-1.65459073, Std: 1.07266128"):
    """What matgl writes of a formation-energy model, and the tensors that state.pt would hold."""
    config = M3GNetPropertyConfig.model_validate(
        matgl_potential(smooth=False).config.model_dump() | {"model": "m3gnet-property"}
    )
    arguments = description(matgl_potential(smooth=False))["kwargs"]["model"]["init_args"]
    arguments |= {"is_intensive": True, "readout_type": "set2set", "niters_set2set": 3, "nlayers_set2set": 3}
    network = {"@class": "M3GNet", "@module": "matgl.models._m3gnet", "@model_version": version, "init_args": arguments}
    content = {"@class": "TransformedTargetModel", "@module": "matgl.models._wrappers", "@model_version": 1}
    content |= {"metadata": None, "kwargs": {"model": network, "target_transformer": transformer}}
    (folder / "model.json").write_text(json.dumps(content))
    return config


def state_of(config: M3GNetPropertyConfig, params: dict, known: list[int]) -> dict:
    """Tensors of state.pt by matgl's names."""
    state = {EMBEDDING: params["embedding"]["embedding"][known]}
    for layer, arrays in layers_from_parameters(config, params).items():
        kernel, bias = arrays["kernel"].T, arrays.get("bias")
        if layer.stage.startswith("query_"):
            of = {"query_input": "ih", "query_hidden": "hh"}[layer.stage]
            names = (f"model.readout.lstm.weight_{of}_l{layer.depth}", f"model.readout.lstm.bias_{of}_l{layer.depth}")
        else:
            name = f"model.final_layer.layers.{2 * layer.depth}" if layer.stage == "readout" else layer_name(layer)
            names = (f"{name}.weight", f"{name}.bias")
        state |= {names[0]: kernel} | ({names[1]: bias} if bias is not None else {})
    return state


def test_a_property_model_has_its_readout_and_the_scale_of_its_target(tmp_path, monkeypatch):
    folder = tmp_path / "M3GNet-MP-2018.6.1-Eform"
    folder.mkdir()
    config = property_model_folder(folder)
    params = random_parameters(config)
    monkeypatch.setattr("mlip.convert.matgl_files._read_state", lambda path: state_of(config, params, [1, 8, 14, 29]))
    model = convert(folder, aggregate="center")
    assert (model.metadata.property, model.metadata.mean, model.metadata.std) == ("e_form", -1.65459073, 1.07266128)
    assert model.config == config
    jax.tree.map(np.testing.assert_array_equal, model.params, params)
    property_model_folder(folder, transformer="Normalizer(mean=0.5, std=2.0)")  # matgl 4.1
    assert convert(folder, aggregate="center").metadata.std == 2.0
    assert "--aggregate" in mistake(folder)


def test_a_property_model_whose_readout_no_file_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mlip.convert.matgl_files._read_state", lambda path: {})
    property_model_folder(tmp_path, version=1)
    assert "never trained" in mistake(tmp_path, aggregate="neighbor")
    property_model_folder(tmp_path, transformer="LogTransformer")
    assert "LogTransformer" in mistake(tmp_path, aggregate="neighbor")
