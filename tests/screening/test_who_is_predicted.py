"""Who is predicted and who may stay: known candidates, the sieve of compositions, cutoffs by number of elements,
networks of bond pairs, several sources of prototypes."""

from pathlib import Path

import numpy as np
import pytest
from ase.data import chemical_symbols
from textbook import GRAPH, crystals, write_folder

from mlip.data import Frame, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.models.alignn import ALIGNNConfig
from mlip.models.crabnet import CrabNetConfig
from mlip.network import init_parameters
from mlip.property_model import PropertyMetadata, PropertyModel
from mlip.screening.plan import plan_round
from mlip.screening.prototypes import read_prototypes
from mlip.screening.round import run_round
from mlip.screening.screener import Screener
from mlip.screening.screening_recipe import PrototypesRecipe, ScreeningRecipe
from mlip.screening.sieve import Sieve

SYMBOLS = ("Li", "O", "Na", "Cl", "K")
METADATA = PropertyMetadata(property="e_above_hull", elements=chemical_symbols[1:90], functional="PBE")


@pytest.fixture(scope="module")
def cifs(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("cifs"), "rocksalt", "perovskite")


def recipe_of(model: Path, cifs: Path, out: Path, **changes) -> ScreeningRecipe:
    values = {"model": model, "prototypes": {"source": cifs}, "elements": {"among": SYMBOLS}, "keep": {"below": 1e6}}
    return ScreeningRecipe.model_validate({**values, "out": out, **changes})


@pytest.fixture(scope="module")
def crabnet(tmp_path_factory) -> Path:
    config = CrabNetConfig(features=8, heads=2, n_layers=1, hidden=8, output_widths=(8,), element_features=4)
    model = PropertyModel(config, init_parameters(config), METADATA)
    return model.save(tmp_path_factory.mktemp("sieve") / "crabnet.safetensors")


def test_known_candidates_are_not_predicted_again(model, cifs, tmp_path):
    recipe = recipe_of(model, cifs, tmp_path)
    plan = plan_round(recipe)
    place = next(k for k, one in enumerate(plan.candidates.prototypes) if one.name == "rocksalt")
    first = int(plan.candidates.first[place])
    numbers = plan.candidates.numbers(place, np.arange(first, first + 3))
    again = plan_round(recipe, known={"rocksalt": numbers})
    assert again.candidates.are_known(place, numbers).all()
    assert not again.candidates.are_known(1 - place, numbers).any()
    (block,) = [block for block in again.candidates.blocks() if block.prototype == place]
    screener = Screener(again.model, again.candidates, again.rules, recipe.keep)
    screened = screener.screen(block)
    assert screened.n_allowed == block.stop - block.start - 3
    assert not set(screened.candidates) & set(range(first, first + 3))
    assert plan.protocol != again.protocol


def test_the_sieve_drops_compositions_that_its_model_puts_far_from_the_hull(model, crabnet, cifs, tmp_path):
    sieve_model = PropertyModel.load(crabnet)
    plan = plan_round(recipe_of(model, cifs, tmp_path))
    numbers = plan.candidates.numbers(0, np.arange(plan.candidates.first[1]))
    counts = plan.candidates.prototypes[0].atoms_of_site
    formulas = [
        "".join(f"{chemical_symbols[z]}{n}" for z, n in zip(row, counts, strict=True)) for row in numbers.tolist()
    ]
    predicted = sieve_model.predict(formulas)
    cutoff = float(np.median(predicted))
    np.testing.assert_array_equal(Sieve(sieve_model, cutoff).passes(numbers, counts), predicted < cutoff)
    screened = recipe_of(model, cifs, tmp_path / "all")
    sieved = recipe_of(model, cifs, tmp_path / "sieved", sieve={"model": crabnet, "below": cutoff})
    assert run_round(sieved, progress=False)["predicted"] < run_round(screened, progress=False)["predicted"]


def test_a_sieve_reads_compositions(model, cifs, tmp_path):
    recipe = recipe_of(model, cifs, tmp_path, sieve={"model": model, "below": 0.1})
    with pytest.raises(MlipError, match=r"sieve\.model.*a sieve judges compositions"):
        plan_round(recipe)


def test_on_a_cluster_the_sieve_is_the_same(model, crabnet, cifs, tmp_path):
    pytest.importorskip("distributed")
    predicted = PropertyModel.load(crabnet).predict(["LiO", "NaCl", "KO", "LiNaO3", "KClO3"])
    sieve = {"model": crabnet, "below": float(np.median(predicted))}
    here = run_round(recipe_of(model, cifs, tmp_path / "here", sieve=sieve), progress=False)
    there = run_round(recipe_of(model, cifs, tmp_path / "there", sieve=sieve), cluster="local:1", progress=False)
    assert here["predicted"] == there["predicted"]
    assert 0 < here["predicted"] < 70


def test_each_number_of_elements_has_its_cutoff(model, cifs, tmp_path):
    every = run_round(recipe_of(model, cifs, tmp_path / "every"), progress=False)
    binaries = recipe_of(model, cifs, tmp_path / "binaries", keep={"below": {2: 1e6, 3: -1e6}})
    kept = run_round(binaries, progress=False)
    assert (kept["below_cutoff"], every["below_cutoff"]) == (10, 70)
    assert run_round(binaries, progress=False)["below_cutoff"] == 10  # goes on with the state on disk
    with pytest.raises(ValueError, match="no cutoff for"):
        recipe_of(model, cifs, tmp_path, keep={"below": {2: 0.1}})


def test_a_network_of_bond_pairs_screens_as_it_predicts(cifs, tmp_path):
    config = ALIGNNConfig(features=12, embedding_features=8, n_pair_layers=1, n_bond_layers=1, element_features=6)
    path = PropertyModel(config, init_parameters(config), METADATA).save(tmp_path / "alignn.safetensors")
    plan = plan_round(recipe_of(path, cifs, tmp_path))
    screener = Screener(plan.model, plan.candidates, plan.rules, plan.recipe.keep)
    for block in plan.candidates.blocks():
        screened = screener.screen(block)
        crystals_of = [plan.candidate(number, 0.0).atoms for number in screened.candidates.tolist()]
        prototype = plan.candidates.prototypes[block.prototype]
        for atoms in crystals_of:  # as the prototype's: screening does not scale what it predicts
            atoms.set_cell(prototype.atoms.cell, scale_atoms=True)
        np.testing.assert_allclose(screened.distances, plan.model.predict(crystals_of), atol=2e-5)


def test_a_stores_prototype_that_an_earlier_source_has_is_left_out(cifs, tmp_path):
    with StoreWriter(tmp_path / "store.h5") as store:
        for name in ("rocksalt", "fluorite"):
            atoms = crystals()[name]
            frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, np.ones(3, bool))
            store.add(Trajectory(f"of-store-{name}", (frame,), "PBE", 3), "train")
    recipe = PrototypesRecipe(source=(cifs, tmp_path / "store.h5"), sites=(2,))
    found = read_prototypes(recipe, GRAPH)
    assert [one.name for one in found.prototypes] == ["rocksalt", "of-store-fluorite"]
    assert found.skipped["prototype of an earlier material"] == 1
