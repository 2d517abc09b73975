"""CrabNet goes through the door of what a model reads: training, evaluation and prediction know nothing of it."""

import jax
import numpy as np
import pytest
from ase import Atoms

from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.evaluation.property_errors import evaluate_property
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.composition import ElementList, compositions_of_formulas, pad_compositions
from mlip.graph.stacked_structures import Structures
from mlip.models.cgat import CGATConfig
from mlip.models.crabnet import CrabNet, CrabNetConfig
from mlip.network import init_parameters
from mlip.property_model import PropertyMetadata, PropertyModel
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe

RECIPE = """
data: {store: STORE, workers: 0}
model: {model: crabnet, features: 16, heads: 2, n_layers: 1, hidden: 16, output_widths: [16], element_features: 8,
        element_vectors: learned}
property: {name: e_form, loss: robust_mae}
train: {epochs: 40, batch_size: 8, learning_rate: 0.01, optimizer: adamw, frozen: ["embedding/encodings"],
        ema_decay: null, validate_every: 20}
out: OUT
"""
LAMB_SCHEDULE = "learning_rate: 0.006, schedule: {kind: cyclical, period: 2, moves: each step, final_fraction: 0.02}"
CHARGE = {"Li": 1.0, "Na": 1.1, "K": 1.2, "Mg": 2.0, "Ca": 2.1, "F": -1.0, "Cl": -0.9, "O": -2.0, "S": -1.8}
SMALL = CrabNetConfig(features=16, heads=2, n_layers=1, hidden=16, output_widths=(16,), element_features=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Salts whose property follows from the composition: the product of the mean charges of both kinds of ion."""
    path = tmp_path_factory.mktemp("crabnet") / "salts.h5"
    metals, others = list(CHARGE)[:5], list(CHARGE)[5:]
    with StoreWriter(path) as writer:
        for k, (metal, other) in enumerate((m, o) for m in metals for o in others):
            for n in (1, 2, 3):
                positions = 1.5 * np.arange(n + 2)[:, None] * np.ones(3)
                atoms = Atoms([metal] * n + [other] * 2, positions=positions, cell=[12] * 3, pbc=True)
                frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc)
                value = CHARGE[metal] * CHARGE[other] * 2 * n / (n + 2) ** 2
                split = "val" if (k + n) % 7 == 0 else "train"
                writer.add(Trajectory(f"{metal}{n}{other}2", [frame], "PBE", 3, {"e_form": value}), split)
    return path


def test_crabnet_is_trained_evaluated_and_asked_by_the_common_road(store, tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE.replace("STORE", str(store)).replace("OUT", str(tmp_path / "run")))
    model = PropertyModel.load(train(load_recipe(tmp_path / "r.yaml"), quiet=True))
    with Store(store) as opened:
        found = evaluate_property(model, opened, "val")
        frames = [opened.relaxed_frame(m) for m in opened.materials() if m.split == "val"]
    assert found.mae < 0.5 * found.mae_of_median
    np.testing.assert_allclose(model.predict(frames), found.predicted, rtol=1e-5)
    assert model.metadata.knows_uncertainty


def test_the_originals_way_of_training_is_resumed_to_the_bit(store, tmp_path):
    text = RECIPE.replace("optimizer: adamw", "optimizer: lamb, lookahead: {period: 2}, average: good, clip_norm: null")
    text = text.replace("ema_decay: null, validate_every: 20", "validate_every: 2").replace("epochs: 40", "epochs: 6")
    text = text.replace("learning_rate: 0.01", LAMB_SCHEDULE).replace("STORE", str(store))
    (tmp_path / "r.yaml").write_text(text)
    whole = PropertyModel.load(train(load_recipe(tmp_path / "r.yaml", [f"out={tmp_path / 'whole'}"]), quiet=True))
    train(load_recipe(tmp_path / "r.yaml", [f"out={tmp_path / 'cut'}", "train.epochs=3"]), quiet=True)
    resumed = load_recipe(tmp_path / "r.yaml", [f"out={tmp_path / 'cut'}"])
    cut = PropertyModel.load(train(resumed, resume=True, quiet=True))
    for one, other in zip(jax.tree.leaves(whole.params), jax.tree.leaves(cut.params), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_of_compositions_is_asked_by_formulas(store):
    params = init_parameters(SMALL, seed=1)
    metadata = PropertyMetadata(
        property="gap", mean=2.0, std=3.0, elements=["Na", "Cl", "Al", "Ga", "As"], knows_uncertainty=True
    )
    model = PropertyModel(SMALL, params, metadata)
    values, uncertainties = model.predict_with_uncertainty(["NaCl", Atoms("NaCl"), "Al0.35Ga0.65As"])
    assert values[0] == values[1] != values[2]
    outputs = CrabNet(SMALL).apply({"params": params}, pad_compositions(compositions_of_formulas(["NaCl"])))
    np.testing.assert_allclose(values[0], 2.0 + 3.0 * outputs[0, 0], rtol=1e-5)
    np.testing.assert_allclose(uncertainties[0], 3.0 * np.exp(outputs[0, 1]), rtol=1e-5)
    known, odd, unknown = model.try_predict(["NaCl", "Na+", "KCl"])
    assert known.value == values[0]
    assert "charge" in str(odd)
    assert "does not know K" in str(unknown)
    with pytest.raises(MlipError, match="structure 1, formula 'Xx': there is no element"):
        model.predict(["NaCl", "Xx"])
    assert model.predict("NaCl").shape == (1,)


def test_models_of_structures_refuse_formulas(tmp_path):
    config = CGATConfig(features=4, shell_features=4, heads=1, n_steps=1, composition_steps=0, output_widths=(4,))
    model = PropertyModel(config, init_parameters(config), PropertyMetadata(property="gap", elements=["Na", "Cl"]))
    with pytest.raises(MlipError, match="structure 0: a composition without a structure"):
        model.predict(["NaCl"])


def test_a_batch_of_element_graphs_is_what_the_original_reads():
    params = init_parameters(SMALL, seed=1)
    formulas = ["NaCl", "SrTiO3", "Si", "LiFePO4"]
    structures = Structures.of(Atoms(formula) for formula in formulas)
    batch = pad_batch(ElementList().graphs(structures), Shape(16, 1, 6))
    ours = CrabNet(SMALL).apply({"params": params}, batch)[:4]
    theirs = CrabNet(SMALL).apply({"params": params}, pad_compositions(compositions_of_formulas(formulas)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_steps_of_training_draw_other_random_numbers_and_predictions_none():
    params, network = init_parameters(SMALL), CrabNet(SMALL)
    batch = pad_batch(ElementList().graphs(Structures.of([Atoms("NaCl")])), Shape(4, 1, 2))
    first, again, other = (
        network.apply({"params": params}, batch, deterministic=False, rngs={"dropout": jax.random.key(seed)})[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_what_has_no_composition_is_told_and_spoils_nothing():
    odd = Frame(np.array([0], np.int16), np.zeros((1, 3)), np.eye(3), np.ones(3, bool))
    fault, good, crowded = ElementList().graphs(Structures.of([odd, Atoms("NaCl"), Atoms(range(1, 14))]))
    assert isinstance(fault, MlipError)
    assert good.nodes["species"].tolist() == [11, 17]
    assert "13 elements; 12 are the most" in str(crowded)
