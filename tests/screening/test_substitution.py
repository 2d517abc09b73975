"""A candidate as a crystal."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from textbook import prototypes_in

from mlip.screening.substitution import substituted


def test_the_prototypes_own_elements_give_the_prototype_back(prototypes):
    prototype = prototypes["perovskite"]
    own = np.array([prototype.atoms.numbers[prototype.site_of_atom == site][0] for site in range(3)])
    atoms = substituted(prototype, own)
    assert atoms.get_chemical_formula() == "O3SrTi"
    np.testing.assert_allclose(atoms.positions, prototype.atoms.positions, atol=1e-12)


def test_elements_change_places_and_volume_and_nothing_else(prototypes):
    prototype = prototypes["fluorite"]
    before = prototype.atoms.copy()
    larger = substituted(prototype, np.array([56, 53]))  # BaI2 in place of CaF2
    assert larger.get_chemical_formula() == "BaI2"
    assert larger.get_volume() > 1.3 * before.get_volume()
    np.testing.assert_allclose(larger.get_scaled_positions(), before.get_scaled_positions(), atol=1e-12)
    assert prototype.atoms == before


@pytest.mark.parametrize(("symbols", "a"), [("MgO", 4.25), ("KCl", 6.38), ("KBr", 6.70), ("LiF", 4.07), ("CaO", 4.84)])
def test_rock_salts_are_near_their_own_lattice_constant(tmp_path, symbols, a):
    ase.io.write(tmp_path / "NaCl.cif", bulk("NaCl", "rocksalt", a=5.69))
    (prototype,) = prototypes_in(tmp_path)
    numbers = bulk(symbols, "rocksalt", a=a).numbers
    if prototype.atoms.numbers[0] == 17:
        numbers = numbers[::-1]
    found = (4 * substituted(prototype, numbers).get_volume()) ** (1 / 3)
    assert found == pytest.approx(a, rel=0.15)
