"""A MACE goes to mace-torch and comes back the same; mace-torch gives our numbers with it."""

import jax
import numpy as np
import pytest
from mace_world import deviations, structures, their_results
from matgl_world import assert_same_parameters, matgl_potential

from mlip.convert import convert, export
from mlip.convert.layers import NamedArrays
from mlip.convert.mace_layout import parameters_from_state, state_from_parameters
from mlip.errors import MlipError
from mlip.models.mace import MACEConfig
from mlip.network import init_parameters
from mlip.potential import Head, Potential, PotentialMetadata

ENERGIES = {"C": -9.25, "O": -4.5, "Si": -5.0, "Fe": -8.25, "Cu": -3.5, "Cs": -0.75}
SMALL = {
    "elements": (6, 8, 14, 26, 29, 55),
    "channels": 4,
    "cutoff": 4.5,
    "n_bessel": 6,
    "radial_hidden": (8, 8),
    "readout_hidden": 5,
    "max_ell": 2,
    "correlation": 2,
    "mean_neighbors": 12.5,
}
VARIANTS = {
    "published": {"max_ell": 3, "correlation": 3},
    "L2": {"max_l": 2},
    "element block": {"first_block": "element", "n_layers": 3},
    "one layer": {"n_layers": 1, "max_l": 0, "readout_hidden": 16},
    "density": {"normalization": "density", "distance_transform": "agnesi", "zbl": True, "first_block": "element"},
    "correlation 4": {"max_ell": 1, "correlation": 4},
    "three heads": {"heads": ("PBE", "PBEsol", "SCAN")},
}


@pytest.fixture
def mace_torch():
    return pytest.importorskip("mace.modules", reason="needs mace-torch (the extra `convert`)", exc_type=ImportError)


def mace_potential(dtype: str = "float32", **changes) -> Potential:
    config = MACEConfig(**SMALL | changes)
    random = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: init_parameters(config))  # nothing to compile
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(dtype), shapes)
    heads = {
        name: Head(
            reference_energies={symbol: energy - k for symbol, energy in ENERGIES.items()},
            scale=0.5 + k,
            shift=0.25 * k,
            functional="unknown" if name == "default" else name,
        )
        for k, name in enumerate(config.heads)
    }
    return Potential(config, params, PotentialMetadata.of_heads(heads))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_has_one_place_in_their_state_dict(variant):
    potential = mace_potential(**VARIANTS[variant])
    state = state_from_parameters(potential.config, potential.params)
    n_unused = 0
    if variant == "three heads":
        n_unused = 6 * SMALL["readout_hidden"]  # from the hidden units of each head to the two others' energies
    assert sum(array.size for array in state.values()) == potential.n_parameters + n_unused
    again = parameters_from_state(potential.config, NamedArrays(state, "state"), "state")
    jax.tree.map(np.testing.assert_array_equal, again, potential.params)


@pytest.mark.parametrize("variant", VARIANTS)
def test_there_and_back_is_the_same_bit_for_bit(mace_torch, tmp_path, variant):
    potential = mace_potential(**VARIANTS[variant])
    again = convert(export(potential, "mace", tmp_path / "our.model"), trust_pickle=True)
    assert again.config == potential.config
    assert_same_parameters(again, potential)
    assert again.metadata.heads == potential.metadata.heads
    assert again.metadata.reference_energies == potential.metadata.reference_energies
    assert (again.metadata.scale, again.metadata.shift) == (potential.metadata.scale, potential.metadata.shift)


@pytest.mark.parametrize("variant", VARIANTS)
def test_mace_torch_gives_our_numbers(mace_torch, tmp_path, variant):
    potential = mace_potential("float64", **VARIANTS[variant])
    path = export(potential, "mace", tmp_path / "our.model")
    head = potential.heads[-1]
    ours = potential.of_head(head).predict(structures(), dtype="float64")
    energy, forces, stress = deviations(ours, their_results(path, structures(), "float64", head))
    largest = max(np.abs(result["forces"]).max() for result in ours)
    assert energy < 1e-10
    assert forces < 1e-13 * largest + 1e-10  # rough random weights give forces of up to 1e3 eV/A
    assert stress < 1e-10


def test_one_head_of_several_goes_alone(mace_torch, tmp_path):
    potential = mace_potential(heads=("PBE", "SCAN")).of_head("SCAN")
    again = convert(export(potential, "mace", tmp_path / "scan.model"), trust_pickle=True)
    assert again.heads == ("SCAN",)
    assert again.metadata.reference_energies["O"] == ENERGIES["O"] - 1
    assert again.metadata.functional == "SCAN"


def test_elements_without_reference_energies_are_refused(mace_torch, tmp_path):
    potential = mace_potential()
    known = {symbol: energy for symbol, energy in ENERGIES.items() if symbol != "Cs"}
    with pytest.raises(MlipError, match="parameters for Cs, but no reference energies"):
        export(potential.with_metadata(reference_energies=known), "mace", tmp_path / "our.model")
    assert list(tmp_path.iterdir()) == []


def test_other_models_are_refused(tmp_path):
    with pytest.raises(MlipError, match="written for MACE only, not for m3gnet"):
        export(matgl_potential(), "mace", tmp_path / "our.model")


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "precious.model").write_text("mine")
    with pytest.raises(MlipError, match="exists"):
        export(mace_potential(), "mace", tmp_path / "precious.model")
    assert (tmp_path / "precious.model").read_text() == "mine"
