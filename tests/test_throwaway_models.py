"""A new network is a file and a line: one of each kind of input is trained, evaluated, reported and asked."""

import numpy as np
import pytest
from ase import Atoms

import mlip
from mlip import models
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.evaluation.evaluate import evaluate_path
from mlip.evaluation.property_errors import evaluate_property
from mlip.property_model import PropertyModel
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe
from mlip.training.report.run_page import write_run_page
from tests.emt_world import emt_frames, write_store

TRAIN = "train: {epochs: 12, batch_size: 8, learning_rate: 0.05, ema_decay: null}"
WORTH = {"Li": 0.5, "Na": -1.0, "K": 2.0, "F": 0.1, "Cl": -0.7, "Br": 1.4}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    lines = {
        "bonds": models._Entry("tests.throwaway_models", "BondsConfig", "Bonds", "energy"),
        "shells": models._Entry("tests.throwaway_models", "ShellsConfig", "Shells", "property"),
        "angles": models._Entry("tests.throwaway_models", "AnglesConfig", "Angles", "property"),
        "elements": models._Entry("tests.throwaway_models", "ElementsConfig", "Elements", "property"),
    }
    monkeypatch.setattr(models, "_MODELS", models._MODELS | lines)


def trained(tmp_path, text: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text + f"\n{TRAIN}\nout: {tmp_path / 'run'}\n")
    return train(load_recipe(path), quiet=True)


def test_a_potential_of_bonds(tmp_path):
    store = write_store(tmp_path / "emt.h5", emt_frames(40, seed=2))
    path = trained(tmp_path, f"data: {{store: {store}, workers: 0}}\nmodel: {{model: bonds}}")
    potential = mlip.load(path)
    (row, _) = evaluate_path(potential, store, split="val").rows
    assert row.n_frames == 8
    atoms = Atoms("CuAl", positions=[[0, 0, 0], [1.9, 1.9, 0.1]], cell=[3.8] * 3, pbc=True)
    (found,) = potential.predict([atoms])
    assert np.isfinite(found["energy"])
    assert np.abs(found["forces"]).max() > 0
    assert mlip.relax(atoms, potential, steps=2, progress=False)[0].n_steps == 2
    assert write_run_page(tmp_path / "run", tmp_path / "page.html")


@pytest.mark.parametrize("name", ["shells", "angles", "elements"])
def test_a_model_of_a_property(name, tmp_path):
    with StoreWriter(tmp_path / "salts.h5") as writer:
        for k, (metal, other) in enumerate((m, o) for m in ("Li", "Na", "K") for o in ("F", "Cl", "Br")):
            for n in (1, 2, 3):
                atoms = Atoms(
                    [metal] * n + [other], 2.0 * np.arange(n + 1)[:, None] * np.ones(3), cell=[9] * 3, pbc=True
                )
                frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc)
                value = (n * WORTH[metal] + WORTH[other]) / (n + 1)
                split = "val" if n == 2 and k % 2 else "train"
                writer.add(Trajectory(f"{metal}{n}{other}", [frame], "PBE", 3, {"e_form": value}), split)
    data = f"data: {{store: {tmp_path / 'salts.h5'}, workers: 0}}"
    path = trained(tmp_path, f"{data}\nmodel: {{model: {name}}}\nproperty: {{name: e_form}}")
    model = PropertyModel.load(path)
    with Store(tmp_path / "salts.h5") as store:
        errors = evaluate_property(model, store, "val")
        frames = [store.relaxed_frame(material) for material in store.materials() if material.split == "val"]
    assert errors.mae < errors.mae_of_median
    np.testing.assert_allclose(model.predict(frames), errors.predicted, rtol=1e-5)
    assert write_run_page(tmp_path / "run", tmp_path / "page.html")
