"""Recipes of hand-overs: those that travel with mlip, and mistakes in them told by the user's own keys."""

import pytest

from mlip.dft import SurrogateRecipe, VaspRecipe
from mlip.dft.files import HandOverRecipe
from mlip.errors import MlipError
from mlip.recipe_reading import read_recipe


def test_the_recipe_that_travels_with_mlip_is_the_default():
    assert read_recipe("dft/pbe", HandOverRecipe).dft == VaspRecipe(kind="vasp")


def test_the_surrogates_recipe_names_a_registered_potential():
    assert read_recipe("dft/surrogate", HandOverRecipe).dft == SurrogateRecipe(kind="ase", calculator="nequix-oam-1")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{kind: vasp, encutt: 520}", r"unknown key dft\.encutt \(did you mean dft\.encut\?\)"),
        ("{kind: ase, calculator: m3gnet, fmaxx: 1}", r"unknown key dft\.fmaxx \(did you mean dft\.fmax\?\)"),
        ("{kind: ase, calculator: m3gnet, hubbard: true}", r"unknown key dft\.hubbard \(known: kind, calculator"),
        ("{kind: ase}", r"dft\.calculator is missing"),
        ("{kind: vasp, encut: low}", r"dft\.encut: .* not 'low'"),
        ("{kind: abinit}", r"dft\.kind: there is no 'abinit' \(one of 'vasp', 'ase'\)"),
        ("{encut: 520}", r"dft\.kind is missing"),
        ("{kind: vasp, incar: {ENCUT: 300}}", r"dft\.incar: ENCUT is decided by encut"),
    ],
)
def test_mistakes_are_told_by_the_keys_of_the_file(tmp_path, text, told):
    (tmp_path / "mine.yaml").write_text(f"dft: {text}\n")
    with pytest.raises(MlipError, match=told):
        read_recipe(tmp_path / "mine.yaml", HandOverRecipe)
