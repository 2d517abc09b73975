"""Splits by material."""

import random

import pytest

from mlip.data.split import assign_split, empty_splits
from mlip.errors import MlipError

IDS = [f"agm{k:09d}" for k in range(20_000)]


def test_shares_are_ninety_five_five():
    found = [assign_split(i, seed=0) for i in IDS]
    # three standard deviations of a binomial of 20,000 at 5 % are 0.5 %
    assert found.count("test") / len(IDS) == pytest.approx(0.05, abs=0.005)
    assert found.count("val") / len(IDS) == pytest.approx(0.05, abs=0.005)
    assert set(found) == {"train", "val", "test"}


def test_a_material_stays_where_it_was_when_data_are_added_or_reordered():
    before = {i: assign_split(i, seed=3) for i in IDS[:1000]}
    shuffled = random.Random(0).sample(IDS, len(IDS))
    after = {i: assign_split(i, seed=3) for i in shuffled}
    assert {i: after[i] for i in before} == before


def test_the_split_is_the_same_in_every_process_and_release():
    # Values that stores and papers may depend on: a change of the hash would move materials between splits.
    assert [assign_split(i, seed=0, fractions=(0.4, 0.3, 0.3)) for i in IDS[:6]] == [
        "test",
        "train",
        "train",
        "test",
        "test",
        "val",
    ]


def test_another_seed_gives_another_split():
    first = [assign_split(i, 0, (0.5, 0.25, 0.25)) for i in IDS[:1000]]
    second = [assign_split(i, 1, (0.5, 0.25, 0.25)) for i in IDS[:1000]]
    assert first != second


def test_a_larger_test_set_takes_no_material_out_of_the_old_one():
    old = {i for i in IDS if assign_split(i, 0, (0.9, 0.05, 0.05)) == "test"}
    new = {i for i in IDS if assign_split(i, 0, (0.8, 0.1, 0.1)) == "test"}
    assert old < new


def test_everything_can_go_to_one_split():
    assert {assign_split(i, 0, (1.0, 0.0, 0.0)) for i in IDS[:100]} == {"train"}
    assert {assign_split(i, 0, (0.0, 0.0, 1.0)) for i in IDS[:100]} == {"test"}


@pytest.mark.parametrize("fractions", [(0.9, 0.1), (0.9, 0.05, 0.04), (1.1, -0.05, -0.05), (0.9, 0.1, float("nan"))])
def test_shares_that_do_not_add_up_are_refused(fractions):
    with pytest.raises(MlipError, match="three shares"):
        assign_split("agm1", 0, fractions)


def test_a_split_that_was_asked_for_and_is_empty_is_told():
    (line,) = empty_splits({"train": 12, "test": 1}, (0.9, 0.05, 0.05))
    assert line.startswith("val: no frame, though 0.05 of the materials were asked for")
    assert empty_splits({"train": 12}, (1, 0, 0)) == []
