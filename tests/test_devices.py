"""Several devices give what one gives: predictions, relaxations and the scores of a screening."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import jax
import numpy as np
import pytest
from ase.build import bulk

from mlip.devices import Devices
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata

PROGRAM = """
import json, sys
import jax
import numpy as np
from ase.build import bulk
import mlip
from mlip.graph.prototype import Prototype
from mlip.property_model import PropertyModel
from mlip.screening.prediction import Predictor

potential, cgat, used = mlip.load(sys.argv[1]), PropertyModel.load(sys.argv[2]), set()
fetch = jax.device_get

def noting_devices(tree):
    for leaf in jax.tree.leaves(tree):
        used.update(leaf.devices())
    return fetch(tree)

jax.device_get = noting_devices
structures = []
for k in range(12):
    atoms = bulk("Cu" if k % 2 else "Al", "fcc", a=3.7 + 0.03 * k, cubic=True)
    atoms.rattle(0.05, seed=k)
    structures.append(atoms)
predictions = potential.predict(structures, "float64", batch_edges=512)
of_predictions = len(used)
used.clear()
supercells = [atoms.repeat((2, 2, 1)) for atoms in structures]
relaxed = mlip.relax(supercells, potential, steps=4, dtype="float64", progress=False)
prototype = Prototype.of(bulk("NaCl", "rocksalt", a=5.6))
numbers = np.array([[z, 8] for z in range(1, 80)])
print(json.dumps({
    "devices": [jax.local_device_count(), of_predictions, len(used)],
    "energies": [float(one["energy"]) for one in predictions],
    "forces": [one["forces"].tolist() for one in predictions],
    "relaxed": [one.energy for one in relaxed],
    "scores": Predictor(cgat).predict(prototype, numbers).tolist(),
}))
"""


def a_potential() -> Potential:
    config = M3GNetConfig(units=4, n_blocks=1, max_n=2, max_l=2)
    return Potential(config, init_parameters(config), PotentialMetadata(reference_energies={"Al": -3.0, "Cu": -4.0}))


@pytest.fixture(scope="module")
def on(tmp_path_factory, tiny_cgat):
    """What so many devices say, of one seed of structures and weights."""
    folder: Path = tmp_path_factory.mktemp("devices")
    files = a_potential().save(folder / "potential.safetensors"), tiny_cgat.save(folder / "cgat.safetensors")

    def run(n_devices: int) -> dict:
        flags = f"--xla_force_host_platform_device_count={n_devices} --xla_backend_optimization_level=0"
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", PROGRAM, *map(str, files)]
        return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    return run


def test_batches_go_to_all_devices_and_the_results_are_those_of_one(on):
    one, four = on(1), on(4)
    assert one["devices"] == [1, 1, 1]
    assert four["devices"][:2] == [4, 4]
    assert four["devices"][2] > 1
    for key in ("energies", "forces", "relaxed"):
        np.testing.assert_allclose(four[key], one[key], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(four["scores"], one["scores"], rtol=1e-5)


def test_arrays_of_one_device_are_taken_as_they_are_and_a_row_begins_with_the_first():
    arrays = {"weights": np.ones(3)}
    devices = Devices(arrays)
    assert len(devices) == jax.local_device_count() == 1
    with next(devices.turns()).taken() as taken:
        assert taken is arrays
    assert next(devices.turns()) is next(devices.turns())


def test_parameters_are_put_on_the_device_once_and_stay_behind_when_a_potential_travels():
    potential = a_potential()
    (energy,) = (one["energy"] for one in potential.predict([bulk("Cu")]))
    assert potential.cast("float32") is potential.cast("float32")
    travelled = pickle.loads(pickle.dumps(potential))
    assert set(vars(travelled)) == {field.name for field in fields(Potential)}  # nothing that was put on a device
    assert travelled.predict([bulk("Cu")])[0]["energy"] == energy
