"""Calculators of ASE by name: what the text means, and that they predict what they say themselves."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.errors import MlipError
from mlip.foreign import ForeignPotential, ForeignSpec, is_foreign


def test_the_text_tells_module_class_and_arguments():
    spec = ForeignSpec.parse("ase:ase.calculators.lj:LennardJones?sigma=2.5&smooth=true&rc=null&label=7net-0&x=a%26b=c")
    assert (spec.module, spec.factory) == ("ase.calculators.lj", "LennardJones")
    assert spec.arguments == {"sigma": 2.5, "smooth": True, "rc": None, "label": "7net-0", "x": "a&b=c"}
    assert ForeignSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m3gnet", "names no calculator of ASE"),
        ("ase:", "names no module and class"),
        ("ase:ase.calculators.emt", "names no module and class"),
        ("ase:/etc/passwd:EMT", "names no module and class"),
        ("ase:ase.calculators.emt:EMT?fast", "'fast' is no key=value"),
        ("ase:ase.calculators.emt:EMT?a=1&a=2", "a is given twice"),
    ],
)
def test_a_text_of_another_form_says_the_form(text, message):
    with pytest.raises(MlipError, match=message):
        ForeignPotential.open(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ase:no_such_package:Calculator", "cannot be imported: No module named 'no_such_package'"),
        ("ase:ase.calculators.emt:EMTs", "the module ase.calculators.emt has no EMTs"),
        ("ase:ase.calculators.singlepoint:SinglePointDFTCalculator", "cannot be made: .*atoms"),
        ("ase:ase:Atoms", "makes a Atoms, which is no calculator of ASE"),
    ],
)
def test_what_cannot_be_opened_says_why_in_one_line(text, message):
    with pytest.raises(MlipError, match=message) as caught:
        ForeignPotential.open(text)
    assert "\n" not in str(caught.value)


def test_predictions_are_the_calculators_own_and_leave_the_structure_alone():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    before = atoms.copy()
    potential = ForeignPotential.open("ase:ase.calculators.emt:EMT")
    (predicted,) = potential.predict([atoms])
    assert atoms == before
    assert atoms.calc is None
    atoms.calc = EMT()
    assert predicted["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    np.testing.assert_allclose(predicted["forces"], atoms.get_forces(), atol=1e-12)
    np.testing.assert_allclose(predicted["stress"], atoms.get_stress(), atol=1e-12)


def test_arguments_reach_the_calculator():
    cutoffs = [ForeignPotential.open(f"ase:ase.calculators.lj:LennardJones?rc={rc}") for rc in (3, 5)]
    energies = [potential.evaluate(Atoms("Ar2", [[0, 0, 0], [0, 0, 4.0]]))["energy"] for potential in cutoffs]
    assert energies[0] == 0 != energies[1]


def test_a_molecule_without_a_cell_has_no_stress():
    potential = ForeignPotential.open("ase:ase.calculators.emt:EMT")
    assert np.isnan(potential.evaluate(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]]))["stress"]).all()


def test_a_structure_that_the_calculator_cannot_take_is_named_by_its_place():
    potential = ForeignPotential.open("ase:ase.calculators.emt:EMT")
    with pytest.raises(MlipError, match="structure 1: EMT failed"):
        potential.predict([bulk("Cu"), bulk("U", "fcc", a=4.0)])


def test_names_of_potentials_and_paths_are_no_calculators():
    assert is_foreign("ase:ase.calculators.emt:EMT")
    assert not any(map(is_foreign, ("m3gnet", "ase.safetensors", "./ase:x")))
