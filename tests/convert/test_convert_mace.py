"""mace-torch's own files become potentials: on request only, by what the module is and not by what it is called."""

import sys
import zipfile

import numpy as np
import pytest
from mace_world import LAYOUTS, deviations, mace_module, save_module, structures, their_results

from mlip.cli.convert import convert as convert_command
from mlip.convert import convert
from mlip.errors import MlipError
from mlip.potential import Potential

MEDIUM = LAYOUTS["MACE-MP-0 medium"]
SMALLEST = MEDIUM | {"max_ell": 1, "correlation": 1}


@pytest.fixture
def mace_torch():
    return pytest.importorskip("mace.modules", reason="needs mace-torch (the extra `convert`)", exc_type=ImportError)


@pytest.fixture
def pickle_of_mace(tmp_path):
    """Named as in the cache of mace-torch. It would import a class, no more."""
    path = tmp_path / "20231203mace128L1_epoch199model"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cmace.modules.models\nScaleShiftMACE\n.")
    return path


def mistake(source, trust_pickle: bool = True) -> str:
    with pytest.raises(MlipError) as error:
        convert(source, trust_pickle=trust_pickle)
    line = str(error.value)
    assert "\n" not in line
    return line


def test_a_pickle_is_not_loaded_unless_it_is_trusted(pickle_of_mace, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # whoever imports it fails
    line = mistake(pickle_of_mace, trust_pickle=False)
    assert "can run any code" in line
    assert "--trust-pickle if you trust its source" in line


def test_the_command_line_does_not_trust_by_itself(pickle_of_mace, tmp_path):
    with pytest.raises(MlipError, match="--trust-pickle"):
        convert_command(pickle_of_mace, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(("missing", "name"), [("torch", "PyTorch"), ("mace", "mace-torch")])
def test_a_missing_package_is_named_with_its_extra(pickle_of_mace, monkeypatch, missing, name):
    if missing == "mace":
        pytest.importorskip("torch", reason="needs PyTorch (the extra `convert`)")
    monkeypatch.setitem(sys.modules, missing, None)
    assert f"with {name}, which is not installed (pip install 'alexandria-mlip[convert]')" in mistake(pickle_of_mace)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_mace_torch_s_numbers_in_float64(mace_torch, tmp_path, layout):
    path = save_module(mace_module(**LAYOUTS[layout]), tmp_path / "their.model")
    potential = convert(path, trust_pickle=True)
    head = potential.heads[-1]
    ours = potential.of_head(head).predict(structures(), dtype="float64")
    theirs = their_results(path, structures(), "float64", head)
    energy, forces, stress = deviations(ours, theirs)
    assert max(np.abs(result["forces"]).max() for result in theirs) > 0.01
    # What is asked is 1e-8 and 1e-7; what is left is rounding.
    assert energy < 1e-11
    assert forces < 1e-10
    assert stress < 1e-11


def test_a_module_in_float32_gives_its_numbers(mace_torch, tmp_path):
    path = save_module(mace_module(**MEDIUM, dtype="float32", r_max=4.6), tmp_path / "their.model")
    potential = convert(path, trust_pickle=True)
    assert potential.cutoff == 4.6  # as it was given, not as float32 rounds it
    assert potential.params["embedding"].dtype == np.float32
    energy, forces, stress = deviations(potential.predict(structures()), their_results(path, structures(), "float32"))
    assert energy < 1e-5
    assert forces < 1e-4
    assert stress < 1e-5


def test_files_of_older_releases_lack_attributes(mace_torch, tmp_path):
    module = mace_module(**SMALLEST)
    new = convert(save_module(module, tmp_path / "new.model"), trust_pickle=True)
    for name in ("heads", "apply_cutoff", "use_reduced_cg", "use_so3", "use_agnostic_product", "edge_irreps"):
        delattr(module, name)
    del module.radial_embedding.apply_cutoff
    old = convert(save_module(module, tmp_path / "old.model"), trust_pickle=True)
    assert old.config == new.config
    assert old.metadata.reference_energies == new.metadata.reference_energies


def test_a_head_named_after_a_functional_has_it(mace_torch, tmp_path):
    path = save_module(mace_module(**SMALLEST | {"heads": ["pbe", "mine"]}), tmp_path / "their.model")
    heads = convert(path, trust_pickle=True).metadata.heads
    assert [head.functional for head in heads.values()] == ["PBE", "unknown"]
    with pytest.raises(MlipError, match="has 2 heads, and --functional names one"):
        convert(path, functional="PBE", trust_pickle=True)


def test_one_head_of_several_is_kept(mace_torch, tmp_path):
    path = save_module(mace_module(**SMALLEST | {"heads": ["PBE", "SCAN"]}), tmp_path / "their.model")
    out = tmp_path / "scan.safetensors"
    convert_command(path, out, head="SCAN", trust_pickle=True)
    assert Potential.load(out).heads == ("SCAN",)
    convert_command(path, tmp_path / "all.safetensors", trust_pickle=True)
    convert_command(tmp_path / "all.safetensors", tmp_path / "again.safetensors", head="SCAN")
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


def test_elements_that_a_head_does_not_know_have_no_energy_there(mace_torch, tmp_path):
    module = mace_module(**SMALLEST | {"heads": ["PBE", "SCAN"]})
    module.atomic_energies_fn.atomic_energies[1, 0] = 0.0  # as mace-torch fills what is not given
    potential = convert(save_module(module, tmp_path / "their.model"), trust_pickle=True)
    assert "C" in potential.of_head("PBE").elements
    with pytest.raises(MlipError, match="does not know C"):
        potential.of_head("SCAN").predict(structures())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gate": "tanh"}, "gate = 'tanh' is not implemented"),
        ({"gate": None}, "gate = 'None' is not implemented"),
        ({"radial_type": "chebyshev"}, "radial_type = 'ChebychevBasis' is not implemented"),
        ({"distance_transform": "Soft"}, "distance_transform = 'softtransform' is not implemented"),
        ({"correlation": [1, 2]}, "layers with different correlations (1, 2)"),
        ({"apply_cutoff": False}, "apply_cutoff = False"),
        ({"use_last_readout_only": True}, "use_last_readout_only = True"),
        ({"use_agnostic_product": True}, "use_agnostic_product = True"),
        ({"keep_last_layer_irreps": True}, "the last layer keeps more than scalars"),
        ({"embedding_specs": {}}, "embedding_specs = {}"),
        ({"later": "RealAgnosticAttResidualInteractionBlock"}, "RealAgnosticAttResidualInteractionBlock are not"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(mace_torch, tmp_path, options, words):
    import torch

    if options.get("gate"):
        options = {"gate": torch.tanh}
    path = save_module(mace_module(**SMALLEST | options), tmp_path / "their.model")
    assert words in mistake(path)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda module: delattr(module.radial_embedding, "cutoff_fn"), "p cannot be told from the module"),
        (lambda module: setattr(module.interactions[0], "avg_num_neighbors", None), "avgn cannot be told"),
        (lambda module: setattr(module, "readouts", None), "its kind cannot be told"),
    ],
)
def test_a_module_that_lacks_what_it_should_have_is_refused_by_name(mace_torch, tmp_path, break_it, words):
    module = mace_module(**SMALLEST)
    break_it(module)
    assert words in mistake(save_module(module, tmp_path / "their.model"))


def test_layers_that_count_neighbors_differently_are_refused(mace_torch, tmp_path):
    module = mace_module(**SMALLEST)
    module.interactions[1].avg_num_neighbors = 3.0
    assert "avg_num_neighbors (20.5, 3.0)" in mistake(save_module(module, tmp_path / "their.model"))


def test_adapted_layers_are_refused(mace_torch, tmp_path):
    from mace.modules.lora import inject_lora

    module = mace_module(**SMALLEST)
    inject_lora(module)
    assert "has LoRA layers" in mistake(save_module(module, tmp_path / "their.model"))


def test_trained_bessel_functions_are_refused(mace_torch, tmp_path):
    module = mace_module(**SMALLEST)
    module.radial_embedding.bessel_fn.bessel_weights[0] += 0.1
    line = mistake(save_module(module, tmp_path / "their.model"))
    assert "bessel_weights is not what the config or the published models have" in line


def test_a_part_of_a_model_and_a_damaged_file_are_refused(mace_torch, tmp_path):
    part = save_module(mace_module(**SMALLEST).readouts[0], tmp_path / "part.model")
    assert "holds a LinearReadoutBlock; only ScaleShiftMACE and MACE" in mistake(part)
    content = bytearray(part.read_bytes())
    content[content.index(b"e3nn")] ^= 1  # in the pickle
    part.write_bytes(content)
    assert "wrong checksum, the file was altered" in mistake(part)
    part.write_bytes(content[: len(content) // 2])
    assert "part.model: is no undamaged archive" in mistake(part)
