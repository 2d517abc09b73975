"""What an accelerator computes is what the CPU computes: run with `pytest -m gpu` where there is one.

With MLIP_ACCELERATOR=cpu the CPU stands in for it, to try the tests themselves.
"""

import os

import jax
import numpy as np
import pytest
from ase.build import bulk

import mlip
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.training.log import read_metrics
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe
from tests.emt_world import TINY_RECIPE, emt_frames, write_store

pytestmark = pytest.mark.gpu
CONFIGS = {
    "m3gnet": M3GNetConfig(cutoff=4.0, three_body_cutoff=3.0, units=16, n_blocks=2),
    "mace": MACEConfig(cutoff=4.0, elements=(13, 28, 29, 47), channels=16, max_l=1),
}


@pytest.fixture(scope="module")
def accelerator():
    platform = os.environ.get("MLIP_ACCELERATOR")
    if platform is None and jax.default_backend() == "cpu":
        pytest.skip("needs a GPU or TPU that JAX can use")
    return jax.devices(platform)[0]


@pytest.fixture(scope="module")
def cpu():
    return jax.devices("cpu")[0]


def potential_of(name: str) -> Potential:
    energies = dict.fromkeys(("Al", "Ni", "Cu", "Ag"), -1.0)
    return Potential(
        CONFIGS[name], init_parameters(CONFIGS[name], seed=1), PotentialMetadata(reference_energies=energies)
    )


def crystals():
    rng = np.random.default_rng(0)
    every = [bulk(symbol, cubic=cubic) for symbol in ("Al", "Ni", "Cu", "Ag") for cubic in (True, False)]
    for atoms in every:
        atoms.rattle(0.1, rng=rng)
    return every


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("dtype", "energy", "forces"), [("float64", 1e-10, 1e-9), ("float32", 2e-5, 2e-4)])
def test_energies_forces_and_stress_are_the_cpus(name, dtype, energy, forces, accelerator, cpu):
    """In float32 too: matrix products are made in full, not of factors rounded to TF32."""
    potential, found = potential_of(name), {}
    for device in (cpu, accelerator):
        with jax.default_device(device):
            found[device] = potential.predict(crystals(), dtype)
    for ours, theirs, atoms in zip(found[accelerator], found[cpu], crystals(), strict=True):
        assert ours["energy"] == pytest.approx(theirs["energy"], abs=energy * len(atoms))
        np.testing.assert_allclose(ours["forces"], theirs["forces"], atol=forces)
        np.testing.assert_allclose(ours["stress"], theirs["stress"], atol=forces)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_relaxation_ends_where_it_ends_on_the_cpu(name, accelerator, cpu):
    ends = {}
    for device in (cpu, accelerator):
        with jax.default_device(device):
            ends[device] = mlip.relax(crystals()[:4], potential_of(name), steps=20, dtype="float64", progress=False)
    for ours, theirs in zip(ends[accelerator], ends[cpu], strict=True):
        assert (ours.reason, ours.n_steps) == (theirs.reason, theirs.n_steps)
        assert ours.energy == pytest.approx(theirs.energy, abs=1e-8)
        np.testing.assert_allclose(ours.atoms.positions, theirs.atoms.positions, atol=1e-6)


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize(("precision", "tolerance"), [("highest", 1e-5), ("tf32", 1e-2), ("bf16", 5e-2)])
def test_training_goes_down_and_products_are_of_the_precision_asked_for(precision, tolerance, tmp_path):
    """The first losses of a run with products in full, which float64 gives too, and of runs with rounded factors."""
    store = write_store(tmp_path / "emt.h5", emt_frames(40, seed=3))
    losses = {}
    for name, options in {
        "asked": [f"train.matmul_precision={precision}"],
        "float64": ["train.precision=float64"],
    }.items():
        path = tmp_path / "recipe.yaml"
        path.write_text(TINY_RECIPE.replace("STORE", str(store)).replace("OUT", str(tmp_path / name)))
        train(load_recipe(path, options), quiet=True)
        records = read_metrics(tmp_path / name, "train")
        losses[name] = [record["loss"] for record in records]
    assert losses["asked"][0] == pytest.approx(losses["float64"][0], rel=tolerance)
    assert losses["asked"][-1] < losses["asked"][0]
