"""Rules of chemistry: smact's own answers, on arrays."""

import itertools
import sys

import numpy as np
import pytest
from ase.data import atomic_numbers, chemical_symbols

from mlip.errors import MlipError
from mlip.screening.rules import Rules
from mlip.screening.screening_recipe import ELEMENTS, RulesRecipe

NUMBERS = np.array([atomic_numbers[symbol] for symbol in ELEMENTS])


@pytest.mark.parametrize(("pauling", "alloys"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("counts", [(1, 1), (2, 6, 2), (1, 2, 4), (1, 1, 3, 6)])
def test_the_answers_are_those_of_smact(pauling, alloys, counts):
    screening = pytest.importorskip("smact.screening")
    rng = np.random.default_rng(len(counts))
    numbers = np.array([rng.choice(NUMBERS, len(counts), replace=False) for _ in range(60)])
    recipe = RulesRecipe(charge_neutral=True, pauling=pauling, alloys=alloys)
    found = Rules(recipe, NUMBERS).allow(numbers, np.array(counts))
    for row, answer in zip(numbers.tolist(), found.tolist(), strict=True):
        formula = "".join(f"{chemical_symbols[z]}{n}" for z, n in zip(row, counts, strict=True))
        assert answer == screening.smact_validity(formula, use_pauling_test=pauling, include_alloys=alloys), formula
    assert 0 < found.sum() < len(found)


def test_salts_pass_and_their_opposites_do_not():
    pytest.importorskip("smact")
    rules = Rules(RulesRecipe(charge_neutral=True, pauling=True), NUMBERS)
    rows = np.array([[38, 22, 8], [8, 22, 38], [11, 8, 17]])  # SrTiO3, OTiSr3, NaOCl3
    assert rules.allow(rows, np.array([1, 1, 3])).tolist()[:2] == [True, False]


def test_without_rules_everything_passes_and_smact_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "smact", None)
    rows = np.array(list(itertools.permutations([3, 8, 11], 2)))
    assert Rules(RulesRecipe(), NUMBERS).allow(rows, np.array([1, 1])).all()
    with pytest.raises(MlipError, match=r"rules: smact is not installed.*alexandria-mlip\[screening\]"):
        Rules(RulesRecipe(charge_neutral=True), NUMBERS)
