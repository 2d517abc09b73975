"""Compositions from formulas and structures: the original's order and rounding, and what is no formula."""

import time
from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers

from mlip.errors import MlipError
from mlip.graph.composition import (
    composition_of,
    compositions_of_formulas,
    compositions_of_numbers,
    merge_formulas,
    pad_compositions,
    parse_formula,
)

RNG = np.random.default_rng(0)


def test_the_originals_arrays_bit_for_bit(shared):
    golden = np.load(shared / "goldens/crabnet/inputs.npz")
    found = compositions_of_formulas(golden["formula"].tolist())
    np.testing.assert_array_equal(found.species, golden["src"])
    np.testing.assert_array_equal(found.fractions, golden["frac"])


def test_the_originals_table_for_training_bit_for_bit(shared):
    golden = np.load(shared / "goldens/crabnet/edm_training_mode.npz")
    merged = merge_formulas(golden["formula_in"].tolist(), golden["target_in"])
    assert merged.formulas == golden["formula"].tolist()
    np.testing.assert_array_equal(merged.targets.astype(np.float32), golden["target"])
    found = compositions_of_formulas(merged.formulas)
    np.testing.assert_array_equal(np.concatenate([found.species, found.fractions], axis=1), golden["edm"][..., 0])


def test_merged_rows_are_counted():
    merged = merge_formulas(["NaCl", "Si", "NaCl", "MgO", "MgO", "Si"], np.array([1.0, 2.0, 3.0, 4.0, 4.0, 5.0]))
    assert merged.formulas == ["MgO", "NaCl"]
    assert merged.targets.tolist() == [4.0, 2.0]
    assert (merged.n_merged, merged.n_contradicting, merged.n_pure) == (2, 1, 2)
    assert merge_formulas(["NaCl", "Si"], np.ones(2), drop_pure=False).formulas == ["NaCl", "Si"]


@pytest.mark.parametrize(
    ("formula", "amounts"),
    [
        ("Li3Fe2(PO4)3", {"Li": 3, "Fe": 2, "P": 3, "O": 12}),
        ("Na25Zr11Sc5Si12(PO8)12", {"Na": 25, "Zr": 11, "Sc": 5, "Si": 12, "P": 12, "O": 96}),
        ("K3[Fe(CN)6]", {"K": 3, "Fe": 1, "C": 6, "N": 6}),
        ("Al0.35Ga0.65As", {"Al": 0.35, "Ga": 0.65, "As": 1}),
        ("Fe.5Co.5", {"Fe": 0.5, "Co": 0.5}),
        ("CuSO4(H2O)5", {"Cu": 1, "S": 1, "O": 9, "H": 10}),
        ("Y3N@C80", {"Y": 3, "N": 1, "C": 80}),
        (" Fe2 O3 ", {"Fe": 2, "O": 3}),
        ("CH3CH2OH", {"C": 2, "H": 6, "O": 1}),
    ],
)
def test_a_formula_is_the_sum_of_its_parts_in_order_of_appearance(formula, amounts):
    assert list(parse_formula(formula).items()) == list(amounts.items())


@pytest.mark.parametrize(
    ("formula", "fault"),
    [
        ("Xx2O3", "no element 'Xx'"),
        ("D2O", "no element 'D'"),
        ("X2", "no element 'X'"),
        ("NaCL", "no element 'L'"),
        ("fe2O3", "'f' cannot be read"),
        ("Na+", "charge"),
        ("SO4-2", "charge"),
        ("SO4^2-", "charge"),
        ("[Fe(CN)6]4-", "charge"),
        ("YBa2Cu3O7-d", "charge or an open amount"),
        ("Fe-2O3", "an amount is negative"),
        ("Fe\N{MINUS SIGN}0.5O", "an amount is negative"),
        ("CuSO4.5H2O", "water of crystallisation"),
        ("CuSO4 . 5 H2O", "water of crystallisation"),
        ("CaSO4.0.5H2O", "water of crystallisation"),
        ("CuSO4.H2O", "water of crystallisation"),
        ("CuSO4·5H2O", "joins two formulas"),
        ("K2SO4.Al2(SO4)3", "joins two formulas"),
        ("Fe0O3", "the amount 0 is zero"),
        ("Fe(OH)0", "the amount 0 is zero"),
        ("Fe0.0000001O", "not between"),
        ("Fe" + 40 * "9", "not between"),
        ("Fe1e5", "'e' cannot be read"),
        ("2H2O", "'2' follows no element"),
        ("Ca(OH", "not balanced"),
        ("CaOH)2", "not balanced"),
        ("Ca(OH]2", "not balanced"),
        ("Ca()2", "brackets is empty"),
        ("@", "names no element"),
        ("Fe₂O₃", "'₂' cannot be read"),
        ("Fe٣", "cannot be read"),
        (40 * "Fe2O3", "has 200 characters"),
    ],
)
def test_what_is_no_formula_is_one_line_that_names_it(formula, fault):
    with pytest.raises(MlipError) as error:
        composition_of(formula)
    assert fault in str(error.value)
    assert formula.strip()[:50] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("nothing", [None, "", "  ", 3.5, float("nan")])
def test_what_is_not_even_text_is_an_error_too(nothing):
    with pytest.raises(MlipError, match="is no formula"):
        parse_formula(nothing)


def test_the_most_abundant_element_comes_first_and_equals_in_order_of_appearance():
    assert composition_of("FePLiO4").species.tolist() == [atomic_numbers[s] for s in ("O", "Fe", "P", "Li")]


def test_a_structure_has_the_composition_of_its_formula():
    perovskite = Atoms("SrTiO3", cell=3.9 * np.eye(3), pbc=True)
    for material in (perovskite, perovskite * (2, 1, 1), "Sr1Ti1O3"):
        found = composition_of(material)
        assert found.species.tolist() == [8, 38, 22]
        np.testing.assert_array_equal(found.fractions, np.float32([0.6, 0.2, 0.2]))
    assert composition_of(bulk("Si")).fractions.tolist() == [1.0]


def ragged(k: int) -> tuple[np.ndarray, np.ndarray]:
    """So many structures of 1 to 20 atoms and up to five elements."""
    n_atoms = RNG.integers(1, 21, k)
    palettes = RNG.integers(1, 119, (k, 5))
    owner = np.repeat(np.arange(k), n_atoms)
    return palettes[owner, RNG.integers(0, 5, len(owner))], n_atoms


def test_many_structures_at_once_are_what_each_is_alone():
    numbers, n_atoms = ragged(5000)  # more than one chunk
    many = compositions_of_numbers(numbers, n_atoms)
    ends = np.cumsum(n_atoms)
    for k in (0, 1, 4095, 4096, 4999):
        alone = composition_of(Atoms(numbers[ends[k] - n_atoms[k] : ends[k]]))
        n = len(alone.species)
        assert many.species[k, :n].tolist() == alone.species.tolist()
        assert not many.species[k, n:].any()
        np.testing.assert_array_equal(many.fractions[k, :n], alone.fractions)
    assert all(a >= b for row in many.fractions for a, b in pairwise(row))


def test_a_hundred_thousand_structures_a_second():
    numbers, n_atoms = ragged(20_000)
    compositions_of_numbers(numbers, n_atoms)
    start = time.process_time()
    compositions_of_numbers(numbers, n_atoms)
    assert 20_000 / (time.process_time() - start) > 100_000


def test_a_structure_that_has_none_is_named():
    with pytest.raises(MlipError, match="structure 1: has no atoms"):
        compositions_of_numbers(np.array([1, 2]), np.array([1, 0, 1]))
    with pytest.raises(MlipError, match="structure 2: atomic number 119"):
        compositions_of_numbers(np.array([1, 2, 3, 119]), np.array([1, 1, 2]))
    with pytest.raises(MlipError, match="structure 0: atomic number 0"):
        compositions_of_numbers(np.array([0, 2]), np.array([2]))
    assert len(compositions_of_numbers(np.array([], int), np.array([], int)).species) == 0


def test_batches_have_few_shapes():
    numbers, n_atoms = ragged(40_000)
    many = compositions_of_numbers(numbers, n_atoms)
    shapes = set()
    for start in range(0, 40_000, 1000):
        batch = pad_compositions(many[start : start + 1000], 1024)
        shapes.add((batch.species.shape, batch.slots.shape))
        elements = batch.slots[batch.slots < batch.species.size]
        assert (batch.species.ravel()[elements] > 0).all()
        assert len(elements) == np.count_nonzero(batch.species)
        assert len(elements) > 0.9 * len(batch.slots)
    assert len(shapes) <= 4
    assert {shape[0] for shape in shapes} == {(1024, 8)}


def test_more_elements_than_the_original_can_read_are_read():
    many = compositions_of_numbers(np.arange(1, 41), np.array([40]))
    assert pad_compositions(many).species.shape == (1, 48)
    assert many.fractions.sum() == pytest.approx(1.0, rel=1e-6)
