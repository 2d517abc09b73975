"""SevenNet's checkpoints, those of its own package, give the numbers of its own code."""

import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase.io import read as read_structures

from mlip.convert import convert
from mlip.convert.converters import sevennet
from mlip.errors import MlipError
from mlip.models.nequip import NequIPConfig
from mlip.potential import Potential
from mlip.pretrained import find

NAMES = {"sevennet-0": (None,), "sevennet-l3i5": (None,), "sevennet-mf-0": ("PBE", "R2SCAN")}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)


@pytest.fixture(scope="module")
def package() -> Path:
    found = find_spec("sevenn")
    if found is None:
        pytest.skip("needs sevenn (pip install sevenn==0.13.0), which ships the weights")
    return Path(next(iter(found.submodule_search_locations)))


@pytest.fixture(scope="module", params=NAMES)
def published(request, torch, package) -> tuple[str, Path, Potential]:
    (file,) = find(request.param).source.files
    return request.param, package / file.path, convert(package / file.path)


@pytest.fixture(scope="module")
def structures(shared) -> list:
    return read_structures(shared / "goldens/m3gnet/structures.extxyz", ":")


def their_results(torch, path: Path, modality: str | None, structures: list) -> list[dict]:
    """Energies and forces of its own code in float64, of vectors in float64."""
    import sevenn._keys as key
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.checkpoint import SevenNetCheckpoint
    from sevenn.nn.node_embedding import OnehotEmbedding
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    def in_double(self, data):
        one_hot = torch.nn.functional.one_hot(data[self.key_x], self.num_classes).double()
        if self.key_save is not None:
            data[self.key_save] = data[self.key_x]
        for name in {self.key_output, self.key_additional_output} - {None}:
            data[name] = one_hot
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnehotEmbedding, "forward", in_double)
        model = SevenNetCheckpoint(path).build_model().double().eval()
        model.set_is_batch_data(False)
        if modality is not None:
            model.prepare_modal_deploy(modality)
        results = []
        for atoms in structures:
            data = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, model.cutoff, with_shift=True))
            ends, shifts = data[key.EDGE_IDX], data[key.CELL_SHIFT].double()
            positions, cell = torch.tensor(atoms.positions), torch.tensor(np.array(atoms.cell))
            data[key.POS], data[key.CELL], data[key.CELL_SHIFT] = positions, cell, shifts
            data[key.CELL_VOLUME] = torch.tensor(max(abs(atoms.cell.volume), 1e-30), dtype=torch.float64)
            data[key.EDGE_VEC] = (positions[ends[1]] - positions[ends[0]] + shifts @ cell).requires_grad_()
            found = model(data)
            names = {"energy": key.PRED_TOTAL_ENERGY, "forces": key.PRED_FORCE}
            results.append({ours: found[theirs].detach().numpy() for ours, theirs in names.items()})
    return results


def test_energies_and_forces_are_those_of_its_own_code_in_float64(published, torch, structures):
    name, path, potential = published
    numbers = set(potential.config.elements)
    known = [atoms for atoms in structures if set(atoms.numbers) <= numbers and len(atoms) > 1]
    assert len(known) > 30
    for modality in NAMES[name]:
        theirs = their_results(torch, path, modality, known)
        found = potential.of_head(modality).predict(known, dtype="float64")
        for atoms, ours, reference in zip(known, found, theirs, strict=True):
            label = f"{modality} {atoms.info['name']}"
            assert abs(ours["energy"] - reference["energy"]) / len(atoms) < 1e-7, label
            np.testing.assert_allclose(ours["forces"], reference["forces"], atol=1e-6, err_msg=label)


def test_the_entry_tells_of_the_published_potential_what_it_is(published):
    name, _, potential = published
    entry = find(name)
    assert entry.converter == "sevennet"
    assert len(potential.of_head(potential.heads[0]).elements) == entry.elements
    if len(potential.heads) > 1:
        assert set(potential.functional.split(" | ")) == set(entry.functional.split(" | "))
        with pytest.raises(MlipError, match="has 2 heads, and --functional names one"):
            convert(published[1], functional="PBE")


def test_a_saved_potential_is_the_same(published, tmp_path):
    _, _, potential = published
    again = Potential.load(potential.save(tmp_path / "ours.safetensors"))
    assert isinstance(again.config, NequIPConfig)
    assert again.fingerprint == potential.fingerprint


def checkpoint(torch, path: Path) -> dict:
    with torch.serialization.safe_globals(list(sevennet._HARMLESS)):
        return torch.load(path, map_location="cpu", weights_only=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_parity": True}, "is_parity = True is not implemented, only False"),
        ({"self_connection_type": "nequip"}, "self_connection_type = 'nequip'"),
        ({"act_radial": "tanh"}, "act_radial = 'tanh'"),
        ({"act_gate": {"e": "ssp"}}, "act_gate = 'ssp'"),
        ({"readout_as_fcn": True}, "readout_as_fcn = True"),
        ({"lmax_edge": 1}, "lmax_edge = 1 beside lmax = 2"),
        ({"cutoff_function": {"cutoff_function_name": "cosine"}}, "cutoff_function 'cosine'"),
        ({"irreps_manual": ["128x0e", "64x0e", "128x0e", "128x0e", "128x0e", "128x0e"]}, "layers differ"),
        ({"irreps_manual": ["128x0e", "spam"]}, "'spam' is not like 64x1o"),
        ({"irreps_manual": False, "channel": 64}, "weights, and by the config"),
        ({"num_convolution_layer": 6, "irreps_manual": False}, "is missing"),
        ({"version": "new"}, "does not tell the version"),
        ({"lmax": None}, "lmax is missing"),
        ({"_type_map": ["H", "O"]}, "is not made as SevenNet makes checkpoints"),
    ],
)
def test_a_variant_that_is_not_implemented_is_named(torch, package, tmp_path, changes, message):
    content = checkpoint(torch, package / find("sevennet-0").source.files[0].path)
    config = {key: value for key, value in (content["config"] | changes).items() if value is not None}
    path = tmp_path / "other.pth"
    torch.save(content | {"config": config}, path)
    with pytest.raises(MlipError, match=message):
        convert(path)


@pytest.mark.parametrize("change", ["lacks", "has more", "other symbol", "other scale", "not finite"])
def test_tensors_that_the_config_does_not_fit_are_refused(torch, package, tmp_path, change):
    content = checkpoint(torch, package / find("sevennet-0").source.files[0].path)
    state, symbol = dict(content["model_state_dict"]), "1_convolution.convolution._compiled_main_left_right._w3j_1_1_2"
    if change == "lacks":
        del state["2_self_interaction_1.linear.weight"]
    elif change == "has more":
        state["spam.weight"] = torch.ones(3)
    elif change == "other symbol":
        state[symbol] = torch.ones_like(state[symbol])
    elif change == "other scale":
        state["rescale_atomic_energy.scale"] = torch.arange(89.0)
    else:
        state["rescale_atomic_energy.shift"] = torch.full((89,), float("nan"))
    path = tmp_path / "other.pth"
    torch.save(content | {"model_state_dict": state}, path)
    message = {"lacks": "is missing", "has more": "spam", "other symbol": "no 3j symbol", "other scale": "scales"}
    message |= {"not finite": "shift has numbers that are not finite"}
    with pytest.raises(MlipError, match=message[change]):
        convert(path)


def test_a_truncated_file_is_refused(package, tmp_path):
    content = (package / find("sevennet-0").source.files[0].path).read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(MlipError):
        convert(path)


def test_a_pickle_that_can_run_code_is_not_loaded_unless_trusted(torch, tmp_path):
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cos\nsystem\n" + sevennet._MARK)
    with pytest.raises(MlipError, match=r"can run any code.*--trust-pickle"):
        convert(path)
