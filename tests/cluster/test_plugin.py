"""Two jobs on one Dask scheduler: each computes with its own model."""

import numpy as np
import pytest
from ase.build import bulk

from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.property_model import PropertyModel
from mlip.relaxation import Statistics, relax
from mlip.relaxation.relax_on_cluster import relax_on_cluster

distributed = pytest.importorskip("distributed")

CRYSTALS = [bulk("Cu", a=3.5 + 0.02 * k) for k in range(12)]
SETTINGS = {"steps": 1, "fmax": 0.05}


@pytest.fixture(scope="module")
def scheduler() -> str:
    """Of one worker with two threads, in this process."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, memory_limit=0
    ) as local:
        yield local.scheduler_address


@pytest.fixture(scope="module")
def potentials(tmp_path_factory) -> list:
    """Two that differ in the energy of an atom of copper by 400 eV."""
    config, folder = M3GNetConfig(units=8), tmp_path_factory.mktemp("potentials")
    params = init_parameters(config)
    return [
        Potential(config, params, PotentialMetadata(reference_energies={"Cu": energy})).save(folder / f"{energy}.st")
        for energy in (-16.0, -416.0)
    ]


def energies(ended) -> dict[int, float]:
    return {k: result.energy for k, result, _ in ended}


def test_a_job_goes_on_with_its_potential_when_another_job_brings_its_own(scheduler, potentials):
    mine, other = potentials
    first = relax_on_cluster(CRYSTALS, ["auto"] * len(CRYSTALS), mine, SETTINGS, scheduler, Statistics())
    begun = [next(first)]
    second = energies(relax_on_cluster(CRYSTALS, ["auto"] * len(CRYSTALS), other, SETTINGS, scheduler, Statistics()))
    found = energies([*begun, *first])
    here = [result.energy for result in relax(CRYSTALS, mine, **SETTINGS, progress=False)]
    np.testing.assert_allclose([found[k] for k in range(len(CRYSTALS))], here, atol=1e-4)
    np.testing.assert_allclose([second[k] + 400 for k in range(len(CRYSTALS))], here, atol=1e-4)


def test_plugins_are_named_after_what_they_hold():
    from mlip.cluster.plugin import ModelOnWorker

    def name_of(content, load=Potential.load, *others):
        return ModelOnWorker(content, load, *others).name

    assert name_of(b"one") == name_of(b"one") != name_of(b"other")
    names = {name_of(b"one", PropertyModel.load, *others) for others in ((0.1,), (0.2,), ((), 0.1))}
    assert len(names | {name_of(b"one")}) == 4


def test_a_worker_without_the_potential_of_a_chunk_says_so(scheduler):
    from mlip.code_version import CODE_VERSION
    from mlip.relaxation.relax_on_cluster import relax_chunk

    with distributed.Client(scheduler) as client:
        sent = client.submit(relax_chunk, [0], CRYSTALS[:1], ["auto"], {}, CODE_VERSION, "mlip-potential-x", pure=False)
        with pytest.raises(MlipError, match="has not got the model of this job"):
            sent.result()
        sent = client.submit(relax_chunk, [0], CRYSTALS[:1], ["auto"], {}, "0.1.0", "mlip-potential-x", pure=False)
        with pytest.raises(MlipError, match=r"this process 0\.1\.0"):
            sent.result()
