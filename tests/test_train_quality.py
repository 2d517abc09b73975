"""benchmarks/train_quality.py: all sides get the same frames, and are measured alike."""

import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mlip.data import Store
from mlip.training.recipe_file import load_recipe

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from train_quality import Task, errors, m3gnet_recipe, mace_recipe, nequip_recipe, read_frames, write_frames


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Folder of the sets of 60 labeled crystals, in batches of 8."""
    folder, rng = tmp_path_factory.mktemp("quality"), np.random.default_rng(0)
    crystals = []
    for _ in range(60):
        atoms = bulk("Ag", cubic=True)
        atoms.rattle(0.1, rng=rng)
        atoms.calc = ase.calculators.singlepoint.SinglePointCalculator(
            atoms, energy=rng.normal(), forces=rng.normal(size=(4, 3)), stress=rng.normal(size=6)
        )
        crystals.append(atoms)
    ase.io.write(folder / "given.extxyz", crystals)
    write_frames(read_frames(folder / "given.extxyz"), folder / "sets", batch_size=8)
    return folder / "sets"


def energies(path):
    return [atoms.info["REF_energy"] for atoms in ase.io.read(path, ":")]


def test_the_store_has_the_very_sets_that_the_other_sides_read(frames):
    with Store(frames / "store.h5") as store:
        for split in ("train", "val", "test"):
            stored = [store.frame(k).energy for k in store.indices(split)]
            assert sorted(stored) == pytest.approx(sorted(energies(frames / f"{split}.extxyz")))


def test_training_batches_are_full(frames):
    assert len(energies(frames / "train.extxyz")) in (8, 16, 24, 32, 40)


def test_a_stress_of_nine_components_is_compared_as_one_of_six(frames):
    labeled = ase.io.read(frames / "test.extxyz", ":")
    predicted = ase.io.read(frames / "test.extxyz", ":")
    for atoms in predicted:
        xx, yy, zz, yz, xz, xy = atoms.info["REF_stress"]
        atoms.info["REF_stress"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        atoms.info["REF_energy"] += 4 * 0.001  # a meV an atom
        atoms.arrays["REF_forces"] = atoms.arrays["REF_forces"] + 0.002
    assert errors(labeled, predicted) == pytest.approx({"energy": 1.0, "forces": 2.0, "stress": 0.0}, abs=1e-5)


@pytest.mark.parametrize("recipe_of", [m3gnet_recipe, mace_recipe, nequip_recipe])
def test_recipes_are_read_back_as_they_were_written(recipe_of, frames, tmp_path):
    recipe = recipe_of(Task(frames, tmp_path, seed=0, epochs=2, batch_size=8))
    recipe.save(tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
