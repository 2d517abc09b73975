"""Several levels of theory in one MACE: each is its own potential, chosen by name, and leaves the others alone."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

from mlip import MLIPCalculator, load
from mlip.energy_gradient import evaluate_batch
from mlip.errors import MlipError
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.radius_graph import crystal_graph
from mlip.models.mace import MACEConfig
from mlip.network import init_parameters
from mlip.potential import Head, Potential, PotentialMetadata
from mlip.runtime import precision_scope

HEADS = ("PBE", "PBEsol")


@pytest.fixture(scope="module")
def potential() -> Potential:
    config = MACEConfig(
        heads=HEADS,
        elements=(11, 17),
        channels=4,
        max_ell=1,
        correlation=1,
        radial_hidden=(8,),
        n_bessel=4,
        cutoff=4.0,
        mean_neighbors=4.0,
    )
    random = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: random.normal(size=leaf.shape).astype(np.float32), jax.eval_shape(lambda: init_parameters(config))
    )
    heads = {
        "PBE": Head(reference_energies={"Na": -1.0, "Cl": -2.0}, scale=0.5, functional="PBE"),
        "PBEsol": Head(reference_energies={"Na": -1.5}, scale=2.0, shift=0.25, functional="PBEsol"),
    }
    return Potential(config, params, PotentialMetadata.of_heads(heads))


@pytest.fixture
def crystal():
    crystal = bulk("Na", "bcc", a=3.6, cubic=True)
    crystal.rattle(0.1, seed=1)
    return crystal


def batch_of(crystal, heads: list[int]):
    """The same crystal for each of the heads."""
    graph = crystal_graph(crystal, 4.0, dtype=np.float64)
    graphs = [graph._replace(globals=graph.globals | {"head": np.array([head], np.int32)}) for head in heads]
    return pad_batch(graphs or [graph], Shape(16, 300, 3))


def test_heads_of_one_batch_are_the_potentials_of_one_head(potential, crystal):
    with precision_scope("float64"):
        graph = batch_of(crystal, [1, 0])
        together = jax.device_get(evaluate_batch(potential.model, potential.cast("float64"), graph, 1.0, 0.0))
    assert potential.elements == ["Na", "Cl"]
    for place, name in enumerate(["PBEsol", "PBE"]):
        alone = potential.of_head(name)
        assert alone.heads == (name,)
        (result,) = alone.predict([crystal], dtype="float64")
        head = potential.metadata.heads[name]
        n = len(crystal)
        energy = head.scale * together.energy[place] + n * (head.shift + head.reference_energies["Na"])
        assert result["energy"] == pytest.approx(float(energy), abs=1e-12)
        forces = head.scale * together.forces[place * n : (place + 1) * n]
        np.testing.assert_allclose(result["forces"], forces, atol=1e-12)


def test_frames_of_one_head_leave_the_readout_of_the_other_alone(potential, crystal):
    graph = batch_of(crystal, [1, 1])
    params = potential.cast("float32")
    gradient = jax.jit(jax.grad(lambda p: evaluate_batch(potential.model, p, graph, 1.0, 0.0).energy.sum()))(params)
    last = gradient["readout_1"]
    hidden = last["hidden"].reshape(4, 2, -1)
    for of_heads in (gradient["readout_0"]["energy"], last["energy"], jnp.moveaxis(hidden, 1, 0)):
        assert np.abs(of_heads[1]).max() > 0
        np.testing.assert_array_equal(of_heads[0], 0)


def test_there_is_no_default_among_several_heads(potential, crystal, tmp_path):
    path = potential.save(tmp_path / "two.safetensors")
    whole = load(path)
    for evaluate in (lambda: whole.predict([crystal]), lambda: MLIPCalculator(path), lambda: MLIPCalculator(whole)):
        with pytest.raises(MlipError, match=re.escape("has several heads (choose one of PBE, PBEsol: head=NAME")):
            evaluate()
    with pytest.raises(MlipError, match=re.escape("has no head 'SCAN' (choose one of PBE, PBEsol")):
        load(path, head="SCAN")
    crystal.calc = MLIPCalculator(path, head="PBEsol")
    (expected,) = load(path, head="PBEsol").predict([crystal])
    assert crystal.get_potential_energy() == pytest.approx(expected["energy"], abs=1e-5)


def test_all_heads_survive_the_file_and_so_does_one(potential, tmp_path):
    again = load(potential.save(tmp_path / "two.safetensors"))
    assert again.config == potential.config
    assert again.metadata == potential.metadata
    jax.tree.map(np.testing.assert_array_equal, again.params, potential.params)
    one = load(again.of_head("PBE").save(tmp_path / "one.safetensors"))
    assert (one.heads, one.metadata.functional, one.metadata.scale) == (("PBE",), "PBE", 0.5)
    assert one.metadata.provenance["head"] == "PBE"
    assert load(tmp_path / "one.safetensors", head="PBE").heads == ("PBE",)


def test_a_head_knows_its_own_elements(potential, crystal):
    crystal.numbers[:] = 17
    assert np.isfinite(potential.of_head("PBE").predict([crystal])[0]["energy"])
    with pytest.raises(MlipError, match="does not know Cl"):
        potential.of_head("PBEsol").predict([crystal])


def test_metadata_and_network_have_the_same_heads(potential):
    with pytest.raises(MlipError, match="the network has the heads"):
        Potential(potential.config, potential.params, PotentialMetadata(reference_energies={"Na": -1.0}))


def test_heads_are_different_names():
    with pytest.raises(ValueError, match="different names"):
        MACEConfig(heads=("PBE", "PBE"))


def test_one_head_does_not_look_for_the_head_of_a_graph(potential, crystal):
    one = potential.of_head("PBE")
    assert jnp.isfinite(evaluate_batch(one.model, one.cast("float32"), batch_of(crystal, []), 1.0, 0.0).energy[0])
