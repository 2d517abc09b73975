"""What is refused before anything is computed."""

from pathlib import Path

import numpy as np
import pytest
from textbook import crystals, write_folder

from mlip.data import Frame, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.models.crabnet import CrabNetConfig
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.property_model import PropertyMetadata, PropertyModel
from mlip.recipe_reading import read_recipe
from mlip.screening.plan import plan_round
from mlip.screening.round import describe_plan
from mlip.screening.screening_recipe import ELEMENTS, RelaxRecipe, ScreeningRecipe
from tests.conftest import REPOSITORY

RECIPE = REPOSITORY / "recipes" / "screening" / "ternaries.yaml"


def read(*overrides: str) -> ScreeningRecipe:
    return read_recipe(RECIPE, ScreeningRecipe, overrides)


def test_there_are_83_elements():
    assert len(set(ELEMENTS)) == 83


def test_a_recipe_reads_back_as_written(tmp_path):
    recipe = read("relax=null", "elements.among=[Li,O,Cl]")
    recipe.save(tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml", ScreeningRecipe) == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("keep.bellow=0.1", r"command line: unknown key keep\.bellow \(did you mean keep\.below\?\)"),
        ("relax.potentail=x", r"unknown key relax\.potentail \(did you mean relax\.potential\?\)"),
        ("keep.below=low", r"keep\.below: input should be a valid number.*not 'low'"),
        ("prototypes.sites=[7]", r"prototypes\.sites\.0: .*less than or equal to 6"),
        ("prototypes.sites=[]", "elements do not suffice|prototypes.sites"),
        ("elements.exclude=[Xx]", r"elements\.exclude: no elements: Xx"),
        ("elements.among=[Li,O]", r"2 elements do not suffice for prototypes\.sites \[2, 3\]"),
        ("rules.pauling=true", "set charge_neutral too"),
        ("keep", "cannot read 'keep'"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_one_line(override, message):
    with pytest.raises(MlipError, match=message) as error:
        read(override)
    assert "\n" not in str(error.value)


def test_no_recipe_and_no_yaml_are_one_line(tmp_path):
    with pytest.raises(MlipError, match="no such recipe"):
        read_recipe(tmp_path / "none.yaml", ScreeningRecipe)
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(MlipError, match="a recipe is a mapping with the keys model, prototypes"):
        read_recipe(tmp_path / "list.yaml", ScreeningRecipe)


def plan(model: Path, folder: Path, allowed: bool = False, **changes):
    recipe = ScreeningRecipe(model=model, prototypes={"source": folder}, keep={"below": 0.1}, out=folder / "out")
    return plan_round(recipe.model_copy(update=changes), allow_functional_mismatch=allowed)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_folder(tmp_path / "cifs", "rocksalt")


def test_what_would_be_screened_is_counted_without_a_trace(model, folder):
    counted = describe_plan(plan(model, folder))
    assert counted["candidates"] == 83 * 82 // 2
    assert not (folder / "out").exists()


def test_a_model_of_another_property_or_of_fewer_elements_is_refused(tiny_cgat, tmp_path, folder):
    def saved(**changes) -> Path:
        metadata = tiny_cgat.metadata.model_copy(update=changes)
        return PropertyModel(tiny_cgat.config, tiny_cgat.params, metadata).save(tmp_path / "other.safetensors")

    with pytest.raises(MlipError, match="predicts volume, not e_above_hull"):
        plan(saved(property="volume"), folder)
    with pytest.raises(MlipError, match=r"model: .*: does not know H, Be.*elements\.exclude=\[H,Be,"):
        plan(saved(elements=["Li", "O"]), folder)


def test_model_potential_and_prototypes_are_of_one_functional_unless_the_user_says_so(tiny_cgat, folder, tmp_path):
    """The model is of PBE."""
    model = tiny_cgat.save(tmp_path / "cgat.safetensors")
    config = M3GNetConfig(units=4, n_blocks=1)
    energies = dict.fromkeys(ELEMENTS, 0.0)
    potentials = {
        name: Potential(
            config, init_parameters(config), PotentialMetadata(reference_energies=energies, functional=name)
        ).save(tmp_path / f"{name}.safetensors")
        for name in ("PBE", "PBEsol")
    }
    assert not plan(model, folder, relax=RelaxRecipe(potential=potentials["PBE"])).functional_notes
    relax = RelaxRecipe(potential=potentials["PBEsol"])
    with pytest.raises(MlipError, match="the model is of PBE, the potential of PBEsol"):
        plan(model, folder, relax=relax)
    allowed = plan(model, folder, True, relax=relax)
    assert "as allowed" in describe_plan(allowed)["functional_note"]

    atoms = crystals()["rocksalt"]
    with StoreWriter(tmp_path / "sol.h5") as writer:
        frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc)
        writer.add(Trajectory("salt", [frame], "PBEsol", 3), "train")
    with pytest.raises(MlipError, match="the model is of PBE, the prototypes of PBEsol"):
        plan(model, tmp_path / "sol.h5")


def test_files_that_are_not_there_are_named(model, folder):
    with pytest.raises(MlipError, match=r"none\.safetensors"):
        plan(model, folder, relax=RelaxRecipe(potential=folder / "none.safetensors"))
    with pytest.raises(MlipError, match=r"none\.safetensors"):
        plan(folder / "none.safetensors", folder)
    with pytest.raises(MlipError, match=r"it is no potential"):
        plan(model, folder, relax=RelaxRecipe(potential=model))
    with pytest.raises(MlipError, match="out is a file, not a folder"):
        plan(model, folder, out=model)


def test_a_model_that_reads_no_structures_is_refused_with_what_it_reads(tmp_path):
    config = CrabNetConfig(features=8, heads=2, n_layers=1, hidden=8, output_widths=(8,), element_features=4)
    metadata = PropertyMetadata(property="e_above_hull", elements=list(ELEMENTS), functional="PBE")
    path = PropertyModel(config, init_parameters(config), metadata).save(tmp_path / "crabnet.safetensors")
    with pytest.raises(
        MlipError, match=r"crabnet\.safetensors: the network reads the composition, of up to 12 elements"
    ):
        plan(path, write_folder(tmp_path / "cifs", "rocksalt"))
