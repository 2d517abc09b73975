"""The candidates of several prototypes, by number."""

import numpy as np
from ase import Atoms

from mlip.screening.candidates import Candidates

SYMBOLS = ("Li", "O", "Na", "Cl", "K")


def chosen(prototypes, *names) -> Candidates:
    return Candidates([prototypes[name] for name in names], SYMBOLS)


def test_blocks_go_through_all_candidates_once_from_any_beginning(prototypes, monkeypatch):
    monkeypatch.setattr("mlip.screening.candidates.BLOCK", 7)
    candidates = chosen(prototypes, "rocksalt", "fluorite", "perovskite")
    assert len(candidates) == 10 + 20 + 60
    blocks = list(candidates.blocks())
    assert [k for block in blocks for k in range(block.start, block.stop)] == list(range(90))
    for block in blocks:
        assert [candidates.prototype_of(k) for k in (block.start, block.stop - 1)] == [block.prototype] * 2
    for done, block in enumerate(blocks):
        assert list(candidates.blocks(block.start)) == blocks[done:]
    assert list(candidates.blocks(90)) == []


def test_candidates_have_one_composition_number_exactly_if_they_have_one_reduced_formula(prototypes):
    candidates = chosen(prototypes, "rocksalt", "cesiumchloride", "fluorite", "perovskite", "heusler", "half_heusler")
    formulas, numbers = [], []
    for k, prototype in enumerate(candidates.prototypes):
        own = np.arange(candidates.first[k], candidates.first[k + 1])
        numbers += candidates.compositions(k, own).tolist()
        for elements in candidates.numbers(k, own):
            formulas.append(Atoms(elements[prototype.site_of_atom]).get_chemical_formula(empirical=True))
    assert len(formulas) == len(candidates)
    assert len(set(zip(formulas, numbers, strict=True))) == len(set(formulas)) == len(set(numbers))
