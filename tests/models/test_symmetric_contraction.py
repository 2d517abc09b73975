"""MACE's generalized Clebsch-Gordan coefficients against e3nn's and mace-torch's."""

import itertools

import numpy as np
import pytest

from mlip.models.symmetric_contraction import (
    coupling_polynomials,
    independent_polynomials,
    monomials,
    polynomials_of_tensor,
    wigner_3j,
)


@pytest.fixture(scope="module")
def constants(shared):
    return np.load(shared / "goldens/mace/constants.npz")


def test_3j_symbols_have_the_signs_of_e3nn(constants):
    for l1, l2, l3 in itertools.product(range(4), repeat=3):
        if abs(l1 - l2) <= l3 <= l1 + l2:
            np.testing.assert_allclose(wigner_3j(l1, l2, l3), constants[f"wigner3j_{l1}_{l2}_{l3}"], atol=1e-14)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_couplings_are_the_symmetric_part_of_those_of_mace_torch(constants, order, degree):
    tensor = constants[f"U_ell3_L{order}_nu{degree}"]
    np.testing.assert_allclose(
        coupling_polynomials(3, degree, order), polynomials_of_tensor(tensor, degree), atol=1e-14
    )


def test_as_many_couplings_are_independent_as_there_are_symmetric_ones():
    counts = [len(independent_polynomials(3, 3, order)[0]) for order in range(3)]
    assert counts == [8, 12, 14]  # of 23, 51, 65


def test_independent_couplings_give_all():
    kept, combinations = independent_polynomials(3, 3, 1)
    np.testing.assert_allclose(np.einsum("kr,rmq->kmq", combinations, kept), coupling_polynomials(3, 3, 1), atol=1e-12)


def test_monomials_with_largest_factor_j_continue_the_first_ones_of_lower_degree():
    lower, upper = monomials(4, 2), monomials(4, 3)
    assert len(upper) == 20
    for j in range(4):
        block = upper[upper[:, -1] == j]
        np.testing.assert_array_equal(block[:, :-1], lower[: len(block)])


def test_published_numbers_of_couplings_of_degree_four():
    """As mace-torch has them, which leaves out intermediate couplings of unnatural parity at this degree."""
    assert [len(coupling_polynomials(2, 4, order)) for order in (0, 1)] == [46, 76]
    assert [len(coupling_polynomials(3, 4, order)) for order in (0, 1)] == [158, 284]


def test_symbols_of_natural_parity_are_positive_at_m_0():
    """As e3nn's are, all 290 up to l = 9: couplings of degree four, which reach that far, have no others."""
    for l1, l2 in itertools.product(range(10), range(4)):
        for l3 in range(abs(l1 - l2), min(l1 + l2, 9) + 1, 2):
            assert wigner_3j(l1, l2, l3)[l1, l2, l3] > 0.05
