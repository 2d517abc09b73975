"""Sites that may change places: those that crystallography says, and no others."""

import itertools

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.ase import AseAtomsAdaptor

from mlip.screening.site_symmetry import site_symmetries
from mlip.screening.substitution import substituted


@pytest.mark.parametrize(
    ("name", "n_symmetries"),
    [
        ("rocksalt", 2),
        ("cesiumchloride", 2),
        ("zincblende", 2),
        ("fluorite", 1),
        ("half_heusler", 2),  # the two that the middle one is equally far from
        ("heusler", 2),
        ("perovskite", 1),
    ],
)
def test_textbook_prototypes_have_the_symmetries_of_the_textbook(prototypes, name, n_symmetries):
    prototype = prototypes[name]
    assert len(site_symmetries(prototype.atoms, prototype.site_of_atom)) == n_symmetries


@pytest.mark.parametrize("name", ["half_heusler", "heusler", "perovskite", "zincblende"])
def test_orders_are_distinct_crystals_and_the_others_are_not(prototypes, name):
    prototype = prototypes[name]
    elements = np.array([3, 19, 35])[: prototype.n_sites]
    matcher = StructureMatcher(ltol=1e-3, stol=1e-3, angle_tol=0.01, primitive_cell=False, scale=True)
    crystals = [
        AseAtomsAdaptor.get_structure(substituted(prototype, elements[list(order)]))
        for order in itertools.permutations(range(prototype.n_sites))
    ]
    classes = matcher.group_structures(crystals)
    assert len(classes) == len(prototype.orders)
