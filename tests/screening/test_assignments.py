"""Numbers and assignments: every crystal has one number, and every number one crystal."""

import itertools
import math

import numpy as np
import pytest

from mlip.screening.assignments import Assignments, distinct_orders

IDENTITY = np.array([[0, 1, 2]])
EXCHANGE = np.array([[0, 1, 2], [1, 0, 2]])
CYCLE = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
ELEMENTS = np.array([1, 6, 7, 8, 26, 92])


def all_of(assignments: Assignments) -> list[tuple[int, ...]]:
    return list(map(tuple, assignments.numbers(np.arange(len(assignments))).tolist()))


def test_without_symmetry_all_permutations_occur_once():
    assignments = Assignments(ELEMENTS, distinct_orders(IDENTITY))
    assert sorted(all_of(assignments)) == sorted(itertools.permutations(ELEMENTS.tolist(), 3))


@pytest.mark.parametrize("symmetries", [EXCHANGE, CYCLE])
def test_of_equal_crystals_one_occurs(symmetries):
    found = all_of(Assignments(ELEMENTS, distinct_orders(symmetries)))
    classes = [frozenset(tuple(one[site] for site in symmetry) for symmetry in symmetries.tolist()) for one in found]
    assert len(set(classes)) == len(found) == math.perm(6, 3) // len(symmetries)


def test_any_number_is_an_assignment_at_once_however_many_there_are():
    assignments = Assignments(np.arange(1, 84), distinct_orders(np.arange(6)[None]))
    assert len(assignments) == math.perm(83, 6) > 2e11
    numbers = np.array([0, 10**10, 10**10 + 1, len(assignments) - 1])
    found = assignments.numbers(numbers)
    assert found[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert found[-1].tolist() == [83, 82, 81, 80, 79, 78]
    assert sorted(found[1]) == sorted(found[2])  # other orders of one set are neighbors
    for number, assigned in zip(numbers.tolist(), found.tolist(), strict=True):
        members = sorted(z - 1 for z in assigned)
        rank = sum(math.comb(c, i) for i, c in enumerate(members, start=1))
        assert rank == number // math.factorial(6)


def test_a_site_alone_takes_each_element():
    assert all_of(Assignments(ELEMENTS, distinct_orders(np.array([[0]])))) == [(z,) for z in ELEMENTS.tolist()]
