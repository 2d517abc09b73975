"""The potential's file and its batched prediction."""

import json

import ase.build
import jax
import numpy as np
import pytest
from ase import Atoms
from safetensors.numpy import load_file, save_file

import mlip
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata


@pytest.fixture(scope="module")
def potential() -> Potential:
    config = M3GNetConfig(units=8, n_blocks=1)
    metadata = PotentialMetadata(
        reference_energies={"Cu": -3.123456789012345, "O": 0.1, "Na": -1.3, "Cl": -1.8, "Si": -5.4},
        scale=1.7,
        shift=0.3,
        functional="PBE",
        provenance={"recipe": "none"},
    )
    return Potential(config, init_parameters(config, seed=2), metadata)


def crystals() -> list[Atoms]:
    return [
        ase.build.bulk("Cu", cubic=True).repeat((2, 2, 1)),
        Atoms("O"),
        ase.build.bulk("NaCl", "rocksalt", a=5.6),
        ase.build.bulk("Si"),
        ase.build.molecule("O2"),
        ase.build.bulk("Cu"),
    ]


def test_a_saved_potential_comes_back_bit_for_bit(potential, tmp_path):
    loaded = mlip.load(potential.save(tmp_path / "new" / "p.safetensors"))
    assert loaded.config == potential.config
    assert loaded.metadata == potential.metadata
    for ours, theirs in zip(potential.predict(crystals()), loaded.predict(crystals()), strict=True):
        assert ours["energy"] == theirs["energy"]
        assert (ours["forces"] == theirs["forces"]).all()


def test_parameters_that_are_transposed_views_come_back_the_same(potential, tmp_path):
    views = jax.tree.map(lambda leaf: np.asfortranarray(leaf), potential.params)  # what a converter's kernel.T is
    loaded = mlip.load(Potential(potential.config, views, potential.metadata).save(tmp_path / "p.safetensors"))
    assert jax.tree.all(jax.tree.map(lambda ours, theirs: bool((ours == theirs).all()), views, loaded.params))


def test_saving_leaves_no_debris_and_replaces_whole(potential, tmp_path):
    path = tmp_path / "p.safetensors"
    potential.save(path)
    potential.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["p.safetensors"]


def test_a_batch_gives_what_single_structures_give_in_their_order(potential):
    structures = crystals()[:3]
    together = potential.predict(structures, dtype="float64", batch_edges=300)
    for structure, result in zip(structures, together, strict=True):
        alone = potential.predict([structure], dtype="float64")[0]
        assert result["energy"] == pytest.approx(alone["energy"], abs=1e-12)
        np.testing.assert_allclose(result["forces"], alone["forces"], atol=1e-12)
        assert result["energies"].sum() == pytest.approx(result["energy"], abs=1e-12)
        assert result["energies"].shape == (len(structure),)


def test_float32_outside_a_float64_call_stays_float32(potential):
    exact = potential.predict(crystals(), dtype="float64")
    single = potential.predict(crystals(), dtype="float32")
    assert any(a["energy"] != b["energy"] for a, b in zip(exact, single, strict=True))
    assert all(abs(a["energy"] - b["energy"]) < 1e-4 for a, b in zip(exact, single, strict=True))


def test_no_structures_no_results(potential):
    assert potential.predict([]) == []


def test_unknown_elements_are_named_with_their_structure(potential):
    with pytest.raises(MlipError, match=r"structure 1: the potential does not know Au, U"):
        potential.predict([Atoms("Cu"), Atoms("AuU", [[0, 0, 0], [0, 0, 2.5]])])


def test_a_file_that_is_none_of_ours_is_refused_in_one_line(tmp_path):
    with pytest.raises(MlipError, match="no such potential"):
        mlip.load(tmp_path / "absent.safetensors")
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"\x80\x04pickle?" * 10)
    with pytest.raises(MlipError, match="cannot be read as safetensors"):
        mlip.load(garbage)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": np.ones(3)}, foreign)
    with pytest.raises(MlipError, match="not a potential"):
        mlip.load(foreign)


@pytest.mark.parametrize("damage", ["truncated", "newer", "lost parameter", "reshaped parameter", "no config"])
def test_a_damaged_potential_says_what_is_wrong(potential, tmp_path, damage):
    path = potential.save(tmp_path / "p.safetensors")
    tensors = load_file(path)
    header = {"format_version": 1, "config": potential.config.model_dump(), "metadata": potential.metadata.model_dump()}
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "newer":
        header["format_version"] = 99
    elif damage == "lost parameter":
        del tensors["embedding.embedding"]
    elif damage == "reshaped parameter":
        tensors["embedding.embedding"] = tensors["embedding.embedding"][:5]
    else:
        del header["config"]
    if damage != "truncated":
        save_file(tensors, path, metadata={"mlip": json.dumps(header)})
    expected = {
        "truncated": "cannot be read",
        "newer": r"format 99.*upgrade",
        "lost parameter": r"parameter embedding\.embedding",
        "reshaped parameter": r"parameter embedding\.embedding.*\(95, 8\).*\(5, 8\)",
        "no config": "damaged header",
    }
    with pytest.raises(MlipError, match=expected[damage]) as error:
        mlip.load(path)
    assert "\n" not in str(error.value)


def test_duplicate_positions_name_the_structure(potential):
    with pytest.raises(MlipError, match=r"frame 1|structure 1"):
        potential.predict([Atoms("Cu"), Atoms("Cu2", [[0, 0, 0], [0, 0, 0]])])


def test_a_network_without_an_element_cannot_claim_it(potential):
    config = potential.config.model_copy(update={"max_atomic_number": 10})
    with pytest.raises(MlipError, match="no parameters for"):
        Potential(config, potential.params, potential.metadata)


def test_one_structure_a_generator_and_structures_of_pymatgen_are_taken_alike(potential):
    from pymatgen.io.ase import AseAtomsAdaptor

    crystal = ase.build.bulk("NaCl", "rocksalt", a=5.6)
    (expected,) = potential.predict([crystal])
    for given in (crystal, (c for c in (crystal,)), AseAtomsAdaptor.get_structure(crystal), (crystal,)):
        (found,) = potential.predict(given)
        assert found["energy"] == pytest.approx(expected["energy"], abs=1e-5)
    for other, told in ((5.6, "no structure: float"), ("NaCl", "a composition without a structure")):
        with pytest.raises(MlipError, match=f"structure 1: {told}"):
            potential.predict([crystal, other])


def test_a_potential_is_one_line_and_a_table_in_a_notebook(potential):
    line = repr(potential)
    assert len(line) < 200
    assert "\n" not in line
    for fact in ("m3gnet", "5 A", "PBE", f"{potential.n_parameters:,}", potential.fingerprint):
        assert fact in line
        assert fact in potential._repr_html_()


def test_a_fingerprint_is_of_the_potential_and_not_of_its_file(potential, tmp_path):
    loaded = mlip.load(potential.save(tmp_path / "p.safetensors"))
    assert loaded.fingerprint == potential.fingerprint
    changed = jax.tree.map(np.array, potential.params)
    jax.tree.leaves(changed)[0].flat[0] += 1e-3
    assert Potential(potential.config, changed, potential.metadata).fingerprint != potential.fingerprint
    assert potential.with_metadata(scale=1.8).fingerprint != potential.fingerprint
