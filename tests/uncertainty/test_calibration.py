"""Calibrated uncertainties: by the last layer of one network, or by an ensemble."""

import ase.build
import jax
import numpy as np
import pytest

import mlip
from mlip.data import Store
from mlip.errors import MlipError
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.stacked_structures import Structures
from mlip.models.last_layer import outputs_and_features
from mlip.models.mattersim import MatterSimConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.uncertainty.calibration import WIDTH, Calibration, LastLayer, Uncertainty
from mlip.uncertainty.dimensionality import dimensionality_of
from mlip.uncertainty.ensembles import ensemble
from mlip.uncertainty.fitting import calibrate, find_factors
from tests.uncertain_world import crystals, cubic, layer, seeds, write_store


@pytest.fixture(scope="module")
def few() -> list[Potential]:
    return seeds(4, size=0.05)


@pytest.fixture(scope="module")
def store(few, tmp_path_factory):
    with Store(write_store(tmp_path_factory.mktemp("store") / "labels.h5", few[0])) as opened:
        yield opened


@pytest.fixture(scope="module")
def calibrated(few, store) -> Potential:
    return calibrate(few[1], store)[0]


def padded(potential: Potential, structures):
    graphs = potential.config.inputs.graphs(Structures.of(structures), np.float32)
    return pad_batch(list(graphs), Shape(64, 4096, len(structures) + 1))


@pytest.mark.parametrize("scales", [None, tuple(np.linspace(0.5, 2, 95))])
def test_the_output_is_linear_in_the_features_of_the_last_layer(few, scales):
    """phi = dE/d(w, b) of the readout's last layer, also where each element has a scale."""
    config, name = few[0].config, "core_2"
    if scales is not None:
        config = MatterSimConfig(units=6, n_blocks=1, max_l=2, max_n=2, element_scales=scales)
    model = Potential(config, init_parameters(config), few[0].metadata)
    params, graph = model.params, padded(model, crystals()[:3])
    from mlip.models.edge_vectors import edge_vectors

    graph = graph._replace(edges={"vectors": edge_vectors(graph, 2 * config.cutoff)})
    outputs, features = outputs_and_features(model.model, params, graph)
    last = params["readout"][name]
    weights = np.concatenate([last["kernel"][:, 0], last["bias"]])
    np.testing.assert_allclose(outputs, features @ weights, rtol=1e-4, atol=1e-5)

    def energy(kernel):
        changed = params | {"readout": params["readout"] | {name: last | {"kernel": kernel}}}
        return model.model.apply({"params": changed}, graph).sum()

    gradient = jax.grad(energy)(last["kernel"])[:, 0]
    np.testing.assert_allclose(features.sum(axis=0)[:-1], gradient, rtol=1e-3, atol=1e-4)


def test_the_variance_is_that_of_the_formula_and_of_linear_regression():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(40, 5))
    layer = LastLayer(rows.T @ rows, 0.3)
    f = rng.normal(size=5)
    expected = f @ np.linalg.inv(rows.T @ rows + 0.3 * np.eye(5)) @ f
    assert layer.std(f) ** 2 == pytest.approx(expected, rel=1e-12)


def test_a_file_keeps_covariance_and_factors_and_predictions_stay(few, calibrated, tmp_path):
    loaded = mlip.load(calibrated.save(tmp_path / "sure.safetensors"))
    assert loaded.uncertainty.calibration == calibrated.uncertainty.calibration
    assert (loaded.uncertainty.last_layer.covariance == calibrated.uncertainty.last_layer.covariance).all()
    assert loaded.fingerprint == few[1].fingerprint
    before, now = few[1].predict(crystals()), loaded.predict(crystals())
    for ours, theirs, again in zip(now, before, calibrated.predict(crystals()), strict=True):
        assert ours["energy"] == pytest.approx(theirs["energy"], abs=1e-5)
        np.testing.assert_allclose(ours["forces"], theirs["forces"], atol=1e-5)
        assert ours["energy_std"] == again["energy_std"] > 0
        assert isinstance(ours["do_not_trust"], bool)
        assert "forces_std" not in ours


def test_an_altered_covariance_is_noticed(calibrated, tmp_path):
    path = calibrated.save(tmp_path / "sure.safetensors")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    at = data.find(calibrated.uncertainty.last_layer.covariance.tobytes())
    assert at == -1 or data != path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(MlipError, match="was altered"):
        mlip.load(path)


def test_ninety_percent_of_held_out_errors_are_within_the_interval(few, store, calibrated):
    """Of the frames that the factors were found on, by dimensionality; new ones are the benchmark's."""
    frames = [store.frame(k) for m in store.materials() if m.split == "val" for k in m.frames]
    for potential in (calibrated, calibrate(ensemble(few[1:]), store)[0]):
        predicted = potential.predict(frames)
        errors = np.array([abs(p["energy"] - f.energy) for p, f in zip(predicted, frames, strict=True)])
        stds = np.array([p["energy_std"] for p in predicted])
        assert 0.88 <= np.mean(errors <= WIDTH * stds) <= 0.95
        assert set(potential.uncertainty.calibration.factors) == {"any", "3"}  # too few layers for a factor


def test_a_structure_unlike_the_training_data_is_less_certain(calibrated):
    known, stranger = ase.build.bulk("NaCl", "rocksalt", a=5.6), ase.build.bulk("CuCl", "zincblende", a=4.4)
    certain, uncertain = calibrated.predict([known, stranger])
    assert uncertain["energy_std"] > 3 * certain["energy_std"]


def test_energy_std_of_a_supercell_is_as_many_times_larger(calibrated):
    one, many = calibrated.predict([crystals()[0], crystals()[0].repeat((2, 1, 1))], dtype="float64")
    assert many["energy_std"] == pytest.approx(2 * one["energy_std"], rel=1e-6)


def test_the_flag_follows_the_threshold(calibrated):
    calibration = calibrated.uncertainty.calibration
    for threshold, expected in ((1e-9, True), (1e9, False)):
        changed = calibration.model_copy(update={"threshold": threshold})
        told = Uncertainty("last layer", changed, calibrated.uncertainty.last_layer)
        potential = Potential(calibrated.config, calibrated.params, calibrated.metadata, told)
        (predicted,) = potential.predict([crystals()[0]])
        assert predicted["do_not_trust"] is expected
        (result,) = mlip.relax(crystals()[0], potential, steps=1, progress=False)
        assert result.as_record()["do_not_trust"] is expected
        atoms = crystals()[0]
        atoms.calc = mlip.MLIPCalculator(potential)
        assert atoms.calc.do_not_trust is None
        atoms.get_potential_energy()
        assert atoms.calc.do_not_trust is expected


def test_the_volume_of_a_last_layer_is_as_uncertain_as_by_its_own_samples(few):
    """Last layers drawn from the distribution whose covariance the formula has, relaxed one by one."""
    potential = few[1]
    rng = np.random.default_rng(3)
    covariance = 1e8 * np.diag(rng.uniform(1, 3, 7))
    told = Uncertainty(
        "last layer", Calibration(factors={"any": 1.0}, threshold=1, frames={}), LastLayer(covariance, 0)
    )
    sure = Potential(potential.config, potential.params, potential.metadata, told)
    options = {"fmax": 1e-6, "dtype": "float64", "progress": False, "steps": 2000}
    (result,) = mlip.relax(cubic(), sure, **options)
    draws = rng.normal(size=(24, 7)) / np.sqrt(np.diag(covariance))
    last, volumes = potential.params["readout"]["core_2"], []
    for draw in draws:
        core = {"kernel": last["kernel"].astype(np.float64) + draw[:6, None], "bias": last["bias"] + draw[6:]}
        params = potential.params | {"readout": potential.params["readout"] | {"core_2": core}}
        sample = Potential(potential.config, params, potential.metadata)
        volumes.append(mlip.relax(cubic(), sample, **options)[0].atoms.get_volume())
    assert result.relative_volume_std == pytest.approx(np.std(volumes) / np.mean(volumes), rel=0.5)


def test_factors_are_by_dimensionality_where_there_are_enough_frames():
    rng = np.random.default_rng(4)
    errors = np.concatenate([rng.normal(size=500), 3 * rng.normal(size=400), rng.normal(size=10)])
    dimensionality = np.repeat([3, 2, 1], [500, 400, 10])
    factors, frames = find_factors(errors, np.ones(910), dimensionality)
    assert factors.keys() == {"any", "3", "2"}
    assert frames == {"any": 910, "2": 400, "3": 500}
    assert factors["3"] == pytest.approx(1, rel=0.15)
    assert factors["2"] == pytest.approx(3, rel=0.15)


def test_dimensionality_is_told_by_vacuum_and_periodicity():
    chain = layer()
    chain.cell[1, 1] = 20.0
    slab = layer()
    slab.pbc = (True, True, False)
    shifted = layer()
    shifted.positions += 17.0
    structures = [crystals()[0], layer(), shifted, slab, chain, crystals()[3], ase.build.molecule("O2")]
    assert [dimensionality_of(atoms) for atoms in structures] == [3, 2, 2, 2, 1, 0, 0]


def test_too_few_frames_and_strange_splits_are_refused(few, store):
    with pytest.raises(MlipError, match=r"split 'test': too few to calibrate.*at least 50"):
        calibrate(few[1], store, split="test")
    with pytest.raises(MlipError, match="no frame of known elements in split 'test'"):
        calibrate(few[1], store, fit_split="test")
    with pytest.raises(MlipError, match="threshold"):
        calibrate(few[1], store, threshold=0)
    metadata = PotentialMetadata(**few[1].metadata.model_dump() | {"functional": "PBEsol"})
    with pytest.raises(MlipError, match="PBEsol"):
        calibrate(Potential(few[1].config, few[1].params, metadata), store)
